//! Merges a batch of products and stores the progress of the import, in one transaction.

use super::{
    batch::{Batch, Import},
    copy::Rows,
    imports,
};
use crate::{product::Withdrawal, validation::Validated};
use chrono::{DateTime, Utc};
use sqlx::{Acquire, PgConnection};
use std::collections::HashMap;

/// Merges `batch` into the catalog and stores the progress of `import`. Returns the state of the import after it.
pub(super) async fn merge(conn: &mut PgConnection, import: &Import, batch: &Batch) -> sqlx::Result<Import> {
    let mut tx = conn.begin().await?;
    let known = find_known(&mut tx, &batch.products).await?;
    let Decision { written, new, updated, unchanged } = decide(&known, &batch.products);
    let mut report = batch.report.clone();
    report.new = import.report.new + new;
    report.updated = import.report.updated + updated;
    report.unchanged = import.report.unchanged + unchanged;
    if !written.is_empty() {
        let last_number = find_last_number(&mut tx).await?;
        copy(&mut tx, &written, last_number).await?;
        use_observed_prices(&mut tx).await?;
        write_products(&mut tx).await?;
        write_brands(&mut tx).await?;
    }
    keep_withdrawals(&mut tx, &batch.withdrawals).await?;
    let products = written.iter().map(|(validated, _)| validated.product.barcode.as_str());
    let withdrawn = batch.withdrawals.iter().map(|withdrawal| withdrawal.barcode.as_str());
    let changed: Vec<&str> = products.chain(withdrawn).collect();
    report.withdrawn = import.report.withdrawn + withdraw(&mut tx, &changed).await?;
    keep_rejects(&mut tx, import.id, batch).await?;
    let import = imports::advance(&mut tx, import.id, batch, report).await?;
    tx.commit().await?;
    Ok(import)
}

/// How recent a product is: `last_modified`, then `last_updated`, then the fingerprint.
type Recency = (DateTime<Utc>, DateTime<Utc>, i64);

/// How recent the products are that the catalog already has, by barcode.
async fn find_known(conn: &mut PgConnection, products: &[Validated]) -> sqlx::Result<HashMap<String, Recency>> {
    let barcodes: Vec<&str> = products.iter().map(|validated| validated.product.barcode.as_str()).collect();
    let rows = sqlx::query!(
        "SELECT barcode, last_modified, last_updated, fingerprint FROM catalog.products WHERE barcode = ANY($1)",
        &barcodes as _,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(|row| (row.barcode, (row.last_modified, row.last_updated, row.fingerprint))).collect())
}

/// The highest product number, 0 in an empty catalog. Only one import runs at a time, so the next numbers are free.
async fn find_last_number(conn: &mut PgConnection) -> sqlx::Result<i64> {
    let last = sqlx::query_scalar!(r#"SELECT coalesce(max(number), 0) AS "last!" FROM catalog.products"#);
    last.fetch_one(conn).await
}

/// Which products of a batch are written.
#[derive(Debug, Default)]
struct Decision<'a> {
    /// The newest product of each barcode, if it is newer than the one in the catalog. A barcode that is new to the
    /// catalog also has its position among the new barcodes of the batch, counted from 1.
    written: Vec<(&'a Validated, Option<i64>)>,
    new: u64,
    updated: u64,
    unchanged: u64,
}

/// Decides as if the products came one by one, so that batch boundaries make no difference.
fn decide<'a>(known: &HashMap<String, Recency>, products: &'a [Validated]) -> Decision<'a> {
    let mut decision = Decision::default();
    let mut newest: HashMap<&str, (Recency, &Validated, Option<i64>)> = HashMap::with_capacity(products.len());
    let mut last_new_position = 0;
    for validated in products {
        let product = &validated.product;
        let (barcode, recency) =
            (product.barcode.as_str(), (product.last_modified, product.last_updated, validated.fingerprint));
        let (current, new_position) = match newest.get(barcode) {
            Some((recency, _, new_position)) => (Some(recency), *new_position),
            None => (known.get(barcode), None),
        };
        let new_position = match current {
            Some(current) if *current >= recency => {
                decision.unchanged += 1;
                continue;
            }
            Some(_) => {
                decision.updated += 1;
                new_position
            }
            None => {
                decision.new += 1;
                last_new_position += 1;
                Some(last_new_position)
            }
        };
        newest.insert(barcode, (recency, validated, new_position));
    }
    decision.written = newest.into_values().map(|(_, validated, new_position)| (validated, new_position)).collect();
    // Sorted, so that neighbors in the index are written one after the other.
    decision.written.sort_unstable_by(|(one, _), (other, _)| one.product.barcode.cmp(&other.product.barcode));
    decision
}

/// Copies products into the temporary table. New products are numbered after `last_number`, in their order in the
/// source.
async fn copy(conn: &mut PgConnection, written: &[(&Validated, Option<i64>)], last_number: i64) -> sqlx::Result<()> {
    let mut rows = Rows::new();
    for (validated, new_position) in written {
        let product = &validated.product;
        rows.row(24)
            .text(product.barcode.as_str())
            .text(&product.name)
            .text(&product.quantity)
            .maybe(product.product_quantity, Rows::double)
            .maybe(product.product_quantity_unit.as_deref(), Rows::text)
            .maybe(product.image_url.as_deref(), Rows::text)
            .maybe(product.kcal_100g, Rows::double)
            .maybe(product.kcal_serving, Rows::double)
            .short(product.nova_group)
            .maybe(product.nutriscore_score, Rows::short)
            .text(&product.nutriscore_grade)
            .maybe(product.fat.as_deref(), Rows::text)
            .maybe(product.saturated_fat.as_deref(), Rows::text)
            .maybe(product.sugars.as_deref(), Rows::text)
            .maybe(product.salt.as_deref(), Rows::text)
            .texts(&product.brands)
            .texts(&product.categories)
            .boolean(product.obsolete)
            .time(product.last_modified)
            .time(product.last_updated)
            .long(validated.fingerprint)
            .maybe(new_position.map(|new_position| last_number + new_position), Rows::long)
            .long(product.invented_price())
            .text("invented");
    }
    let mut copy = conn.copy_in_raw("COPY etl_incoming FROM STDIN (FORMAT binary)").await?;
    copy.send(rows.finish()).await?;
    copy.finish().await?;
    Ok(())
}

/// Replaces the invented prices of the copied products that have an observed one.
async fn use_observed_prices(conn: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::query!(
        "UPDATE etl_incoming AS incoming SET price_cents = observed.price_cents, price_source = 'open-prices'
         FROM catalog.observed_prices AS observed
         WHERE observed.barcode = incoming.barcode AND observed.currency = 'EUR'",
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Updates older products and inserts new ones.
async fn write_products(conn: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::query!(
        "UPDATE catalog.products AS product
         SET name = incoming.name, quantity = incoming.quantity, product_quantity = incoming.product_quantity,
             product_quantity_unit = incoming.product_quantity_unit, image_url = incoming.image_url,
             kcal_100g = incoming.kcal_100g, kcal_serving = incoming.kcal_serving, nova_group = incoming.nova_group,
             nutriscore_score = incoming.nutriscore_score, nutriscore_grade = incoming.nutriscore_grade,
             categories = incoming.categories, obsolete = incoming.obsolete,
             last_modified = incoming.last_modified, last_updated = incoming.last_updated,
             fingerprint = incoming.fingerprint, price_cents = incoming.price_cents, price_source = incoming.price_source
         FROM etl_incoming AS incoming
         WHERE incoming.new_number IS NULL AND product.barcode = incoming.barcode",
    )
    .execute(&mut *conn)
    .await?;
    sqlx::query!(
        "INSERT INTO catalog.products (barcode, number, name, quantity, product_quantity, product_quantity_unit, image_url,
             kcal_100g, kcal_serving, nova_group, nutriscore_score, nutriscore_grade, categories, obsolete,
             last_modified, last_updated, fingerprint, price_cents, price_source)
         SELECT barcode, new_number, name, quantity, product_quantity, product_quantity_unit, image_url,
             kcal_100g, kcal_serving, nova_group, nutriscore_score, nutriscore_grade, categories, obsolete,
             last_modified, last_updated, fingerprint, price_cents, price_source
         FROM etl_incoming WHERE new_number IS NOT NULL",
    )
    .execute(&mut *conn)
    .await?;
    sqlx::query!(
        "INSERT INTO catalog.nutrient_levels (barcode, fat, saturated_fat, sugars, salt)
         SELECT barcode, fat, saturated_fat, sugars, salt FROM etl_incoming
         ON CONFLICT (barcode) DO UPDATE
         SET fat = excluded.fat, saturated_fat = excluded.saturated_fat, sugars = excluded.sugars, salt = excluded.salt",
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Inserts new brands, and replaces the brands of the products.
async fn write_brands(conn: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::query!(
        "INSERT INTO catalog.brands (name)
         SELECT DISTINCT brand.name FROM etl_incoming, unnest(etl_incoming.brands) AS brand (name)
         WHERE NOT EXISTS (SELECT FROM catalog.brands AS known WHERE known.name = brand.name)",
    )
    .execute(&mut *conn)
    .await?;
    sqlx::query!(
        "DELETE FROM catalog.product_brands AS old USING etl_incoming
         WHERE etl_incoming.new_number IS NULL AND old.barcode = etl_incoming.barcode",
    )
    .execute(&mut *conn)
    .await?;
    sqlx::query!(
        "INSERT INTO catalog.product_brands (barcode, brand_id)
         SELECT etl_incoming.barcode, brands.id
         FROM etl_incoming, unnest(etl_incoming.brands) AS brand (name) JOIN catalog.brands ON brands.name = brand.name",
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Stores the withdrawals of rejected records. They also apply to products that are imported later.
async fn keep_withdrawals(conn: &mut PgConnection, withdrawals: &[Withdrawal]) -> sqlx::Result<()> {
    if withdrawals.is_empty() {
        return Ok(());
    }
    let barcodes: Vec<&str> = withdrawals.iter().map(|withdrawal| withdrawal.barcode.as_str()).collect();
    let modified: Vec<DateTime<Utc>> = withdrawals.iter().map(|withdrawal| withdrawal.last_modified).collect();
    let updated: Vec<DateTime<Utc>> = withdrawals.iter().map(|withdrawal| withdrawal.last_updated).collect();
    sqlx::query!(
        "INSERT INTO catalog.withdrawals AS known (barcode, last_modified, last_updated)
         SELECT DISTINCT ON (barcode) barcode, last_modified, last_updated
         FROM unnest($1::text[], $2::timestamptz[], $3::timestamptz[]) AS incoming (barcode, last_modified, last_updated)
         ORDER BY barcode, last_modified DESC, last_updated DESC
         ON CONFLICT (barcode) DO UPDATE
         SET last_modified = excluded.last_modified, last_updated = excluded.last_updated
         WHERE (known.last_modified, known.last_updated) < (excluded.last_modified, excluded.last_updated)",
        &barcodes as _,
        &modified,
        &updated,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Marks products as no longer sold, unless they are newer than their withdrawal. Returns how many were marked.
async fn withdraw(conn: &mut PgConnection, barcodes: &[&str]) -> sqlx::Result<u64> {
    let marked = sqlx::query!(
        "UPDATE catalog.products AS product SET obsolete = true
         FROM unnest($1::text[]) AS wanted (barcode) JOIN catalog.withdrawals AS withdrawal USING (barcode)
         WHERE product.barcode = wanted.barcode AND NOT product.obsolete
           AND (product.last_modified, product.last_updated) <= (withdrawal.last_modified, withdrawal.last_updated)",
        barcodes as _,
    )
    .execute(conn)
    .await?;
    Ok(marked.rows_affected())
}

/// Stores the rejected records, if they are kept.
async fn keep_rejects(conn: &mut PgConnection, import_id: i64, batch: &Batch) -> sqlx::Result<()> {
    if batch.rejects.is_empty() {
        return Ok(());
    }
    let lines: Vec<i64> = batch.rejects.iter().map(|(line, ..)| line.cast_signed()).collect();
    let reasons: Vec<&str> = batch.rejects.iter().map(|(_, reason, _)| reason.as_str()).collect();
    let codes: Vec<Option<&str>> = batch.rejects.iter().map(|(.., code)| code.as_deref()).collect();
    sqlx::query!(
        "INSERT INTO catalog.rejects (import_id, line, reason, code)
         SELECT $1, line, reason, code FROM unnest($2::bigint[], $3::text[], $4::text[]) AS reject (line, reason, code)",
        import_id,
        &lines,
        &reasons as _,
        &codes as _,
    )
    .execute(conn)
    .await?;
    Ok(())
}
