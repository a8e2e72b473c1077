//! The query of `off up`.

use sqlx::PgPool;

/// Whether the catalog has products.
pub(super) async fn has_products(db: &PgPool) -> sqlx::Result<bool> {
    let has_products = sqlx::query_scalar!(r#"SELECT EXISTS (SELECT FROM catalog.products) AS "is_there!""#);
    has_products.fetch_one(db).await
}
