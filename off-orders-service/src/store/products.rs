//! Products of the catalog.

use super::unreadable;
use off_events::Barcode;
use sqlx::PgPool;

/// Returns the first drawn product that is still sold. Each draw is a position in the catalog, from 0 to less than 1,
/// and all products are equally likely. Almost all products are still sold, so that 32 draws are enough. `None` means
/// an empty catalog, or very rarely that no drawn product is still sold.
pub(crate) async fn find_drawn_barcode(db: &PgPool, draws: &[f64]) -> sqlx::Result<Option<Barcode>> {
    let barcode = sqlx::query_scalar!(
        // Looked up one by one, and only until there is one: OFFSET 0 leaves no other way to join.
        "WITH drawn AS MATERIALIZED (
             SELECT 1 + floor(place * (SELECT max(number) FROM catalog.products))::bigint AS number
             FROM unnest($1::float8[]) AS draw (place)
         )
         SELECT found.barcode
         FROM drawn, LATERAL (SELECT barcode FROM catalog.products
                             WHERE products.number = drawn.number AND NOT products.obsolete OFFSET 0) AS found
         LIMIT 1",
        draws,
    )
    .fetch_optional(db)
    .await?;
    barcode.map(|barcode| barcode.parse().map_err(unreadable)).transpose()
}
