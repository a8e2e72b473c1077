//! Replaces the observed prices of the products of an export, and updates the list prices, in one transaction. Before,
//! the prices of the export are copied into a temporary table, because they may be more than fit into memory, and their
//! medians are computed. That is no part of the transaction, which would hold back VACUUM for as long.

use super::{Catalog, StoreError, copy::Rows};
use crate::{
    prices::{Price, PriceChanges},
    product::invented_price,
};
use anyhow::Context;
use chrono::NaiveDate;
use futures::TryStreamExt;
use sqlx::{Acquire, PgConnection};

/// An import of prices that has changed nothing yet.
#[derive(Debug)]
pub(crate) struct PriceImport<'a>(&'a mut PgConnection);

impl Catalog {
    /// Begins an import of prices. Unless it is finished, it changes nothing.
    pub(crate) async fn begin_prices(&mut self) -> anyhow::Result<PriceImport<'_>> {
        let begin = async {
            let conn = self.connect().await?;
            create_tables(conn).await?;
            Ok::<_, StoreError>(PriceImport(conn))
        };
        begin.await.context("cannot update the prices")
    }
}

impl PriceImport<'_> {
    /// Adds prices of the export.
    pub(crate) async fn copy(&mut self, prices: &[Price]) -> anyhow::Result<()> {
        copy(self.0, prices).await.context("cannot copy the prices")
    }

    /// Updates the catalog and commits. Prices from before `first_day` are not used.
    pub(crate) async fn finish(self, first_day: NaiveDate) -> anyhow::Result<PriceChanges> {
        finish(self.0, first_day).await.context("cannot update the prices")
    }
}

async fn finish(conn: &mut PgConnection, first_day: NaiveDate) -> sqlx::Result<PriceChanges> {
    let observed = summarize(conn, first_day).await?;
    let mut tx = conn.begin().await?;
    let removed = remove_observed(&mut tx).await?;
    let updated = update_observed(&mut tx).await?;
    let new = insert_observed(&mut tx).await?;
    let products = set_observed_prices(&mut tx).await? + set_invented_prices(&mut tx).await?;
    tx.commit().await?;
    Ok(PriceChanges { new, updated, unchanged: observed - new - updated, removed, products })
}

/// Creates the temporary tables. They end with the connection, which also holds the lock.
async fn create_tables(conn: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::query!("CREATE TEMPORARY TABLE etl_prices (LIKE public.etl_prices)").execute(&mut *conn).await?;
    sqlx::query!("CREATE TEMPORARY TABLE etl_observed (LIKE public.etl_observed INCLUDING INDEXES)")
        .execute(conn)
        .await?;
    Ok(())
}

async fn copy(conn: &mut PgConnection, prices: &[Price]) -> sqlx::Result<()> {
    let mut rows = Rows::new();
    for price in prices {
        rows.row(5)
            .text(price.barcode.as_str())
            .text(price.currency)
            .long(price.cents)
            .boolean(price.is_discounted)
            .date(price.date);
    }
    let mut copy = conn.copy_in_raw("COPY etl_prices FROM STDIN (FORMAT binary)").await?;
    copy.send(rows.finish()).await?;
    copy.finish().await?;
    Ok(())
}

/// Computes the medians. Returns how many there are. They are exact: `percentile_cont` computes with floats, which hold
/// every whole number and every half of this size.
async fn summarize(conn: &mut PgConnection, first_day: NaiveDate) -> sqlx::Result<u64> {
    sqlx::query!(
        "INSERT INTO etl_observed (barcode, currency, price_cents, observations, newest)
         SELECT barcode, currency,
             round((percentile_cont(0.5) WITHIN GROUP (ORDER BY price_cents) FILTER (WHERE is_used))::numeric)::bigint,
             count(*) FILTER (WHERE is_used), max(date) FILTER (WHERE is_used)
         FROM (SELECT barcode, currency, price_cents, date, date >= $1 AND NOT is_discounted AS is_used
               FROM etl_prices) AS price
         GROUP BY barcode, currency",
        first_day,
    )
    .execute(&mut *conn)
    .await?;
    let observed = sqlx::query_scalar!(r#"SELECT count(*) AS "count!" FROM etl_observed WHERE observations > 0"#);
    Ok(observed.fetch_one(conn).await?.cast_unsigned())
}

/// Removes what the export no longer says of its products.
async fn remove_observed(conn: &mut PgConnection) -> sqlx::Result<u64> {
    let removed = sqlx::query!(
        "DELETE FROM catalog.observed_prices AS known
         USING (SELECT DISTINCT barcode FROM etl_observed) AS product
         WHERE known.barcode = product.barcode
           AND NOT EXISTS (SELECT FROM etl_observed AS observed
                           WHERE observed.barcode = known.barcode AND observed.currency = known.currency
                             AND observed.observations > 0)",
    )
    .execute(conn)
    .await?;
    Ok(removed.rows_affected())
}

async fn update_observed(conn: &mut PgConnection) -> sqlx::Result<u64> {
    let updated = sqlx::query!(
        "UPDATE catalog.observed_prices AS known
         SET price_cents = observed.price_cents, observations = observed.observations, newest = observed.newest
         FROM etl_observed AS observed
         WHERE known.barcode = observed.barcode AND known.currency = observed.currency AND observed.observations > 0
           AND (known.price_cents, known.observations, known.newest)
               <> (observed.price_cents, observed.observations, observed.newest)",
    )
    .execute(conn)
    .await?;
    Ok(updated.rows_affected())
}

async fn insert_observed(conn: &mut PgConnection) -> sqlx::Result<u64> {
    let inserted = sqlx::query!(
        "INSERT INTO catalog.observed_prices (barcode, currency, price_cents, observations, newest)
         SELECT barcode, currency, price_cents, observations, newest FROM etl_observed AS observed
         WHERE observations > 0
           AND NOT EXISTS (SELECT FROM catalog.observed_prices AS known
                           WHERE known.barcode = observed.barcode AND known.currency = observed.currency)",
    )
    .execute(conn)
    .await?;
    Ok(inserted.rows_affected())
}

/// Sets the list prices of products with a price in euros. Returns how many changed.
async fn set_observed_prices(conn: &mut PgConnection) -> sqlx::Result<u64> {
    let changed = sqlx::query!(
        "UPDATE catalog.products AS product
         SET price_cents = observed.price_cents, price_source = 'open-prices'
         FROM etl_observed AS observed
         WHERE observed.currency = 'EUR' AND observed.observations > 0 AND product.barcode = observed.barcode
           AND (product.price_cents, product.price_source) <> (observed.price_cents, 'open-prices')",
    )
    .execute(conn)
    .await?;
    Ok(changed.rows_affected())
}

/// Sets the list prices of products whose price in euros was removed. Returns how many changed.
async fn set_invented_prices(conn: &mut PgConnection) -> sqlx::Result<u64> {
    let products = sqlx::query!(
        "SELECT product.barcode, categories, product_quantity, product_quantity_unit
         FROM (SELECT DISTINCT barcode FROM etl_observed) AS listed JOIN catalog.products AS product USING (barcode)
         WHERE price_source = 'open-prices'
           AND NOT EXISTS (SELECT FROM catalog.observed_prices AS observed
                           WHERE observed.barcode = product.barcode AND observed.currency = 'EUR')",
    );
    let prices = products.fetch(&mut *conn).map_ok(|row| {
        let unit = row.product_quantity_unit.as_deref();
        (row.barcode, invented_price(&row.categories, row.product_quantity, unit))
    });
    let (barcodes, cents): (Vec<String>, Vec<i64>) = prices.try_collect::<Vec<_>>().await?.into_iter().unzip();
    let changed = sqlx::query!(
        "UPDATE catalog.products AS product SET price_cents = invented.cents, price_source = 'invented'
         FROM unnest($1::text[], $2::bigint[]) AS invented (barcode, cents)
         WHERE product.barcode = invented.barcode",
        &barcodes,
        &cents,
    )
    .execute(conn)
    .await?;
    Ok(changed.rows_affected())
}
