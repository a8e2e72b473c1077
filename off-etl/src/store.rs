//! All its SQL: a batch of products is merged in one transaction.

use crate::{product::Product, report::Report, source::lines::Batch};
use metrics::histogram;
use sqlx::{PgConnection, PgPool, types::Json};
use std::{collections::HashMap, time::Instant};

/// Merges a batch into the catalogue, where a product replaces an older one only; says what became of it.
pub(crate) async fn merge(db: &PgPool, batch: Batch) -> sqlx::Result<Report> {
    let started = Instant::now();
    let Batch { products, mut report, .. } = batch;
    let judged = products.len() as u64;
    let newest = newest_of_each(products);
    if !newest.is_empty() {
        let mut tx = db.begin().await?;
        let changed = upsert_products(&mut tx, &newest).await?;
        let barcodes: Vec<String> = changed.keys().cloned().collect();
        let changed_products: Vec<&Product> =
            newest.iter().filter(|product| changed.contains_key(product.barcode.as_str())).collect();
        upsert_levels(&mut tx, &changed_products).await?;
        replace_brands(&mut tx, &barcodes, &changed_products).await?;
        tx.commit().await?;
        report.loaded = changed.values().filter(|&&is_new| is_new).count() as u64;
        report.updated = changed.len() as u64 - report.loaded;
    }
    report.unchanged = judged - report.loaded - report.updated;
    histogram!("off_etl_batch_seconds").record(started.elapsed());
    report.count();
    Ok(report)
}

/// One product a barcode: the newest, and of two as new the later one. In the order of their barcodes, so that two
/// importers who meet lock in the same order.
fn newest_of_each(products: Vec<Product>) -> Vec<Product> {
    let mut newest: HashMap<String, Product> = HashMap::with_capacity(products.len());
    for product in products {
        match newest.get(product.barcode.as_str()) {
            Some(known) if known.last_modified > product.last_modified => {}
            _ => drop(newest.insert(product.barcode.as_str().to_owned(), product)),
        }
    }
    let mut newest: Vec<Product> = newest.into_values().collect();
    newest.sort_unstable_by(|one, other| one.barcode.cmp(&other.barcode));
    newest
}

/// Inserts what is new and updates what is older; says of each changed barcode whether it is new.
async fn upsert_products(conn: &mut PgConnection, products: &[Product]) -> sqlx::Result<HashMap<String, bool>> {
    // Two statements in one, and no ON CONFLICT DO UPDATE: that would draw a number for each product it updates, and
    // the numbers are drawn from at random elsewhere.
    let changed = sqlx::query!(
        r#"WITH incoming AS (
               SELECT * FROM jsonb_to_recordset($1) AS product (
                   barcode text, name text, quantity text, product_quantity double precision,
                   product_quantity_unit text, image_url text, kcal_100g double precision,
                   kcal_serving double precision, nova_group smallint, nutriscore_score smallint,
                   nutriscore_grade text, categories text[], last_modified timestamptz)
           ), updated AS (
               UPDATE catalog.products AS product
               SET name = incoming.name, quantity = incoming.quantity, product_quantity = incoming.product_quantity,
                   product_quantity_unit = incoming.product_quantity_unit, image_url = incoming.image_url,
                   kcal_100g = incoming.kcal_100g, kcal_serving = incoming.kcal_serving,
                   nova_group = incoming.nova_group, nutriscore_score = incoming.nutriscore_score,
                   nutriscore_grade = incoming.nutriscore_grade, categories = incoming.categories,
                   last_modified = incoming.last_modified
               FROM incoming
               WHERE product.barcode = incoming.barcode AND product.last_modified < incoming.last_modified
               RETURNING product.barcode
           ), inserted AS (
               INSERT INTO catalog.products (barcode, name, quantity, product_quantity, product_quantity_unit,
                   image_url, kcal_100g, kcal_serving, nova_group, nutriscore_score, nutriscore_grade, categories,
                   last_modified)
               SELECT incoming.* FROM incoming
               WHERE NOT EXISTS (SELECT FROM catalog.products AS known WHERE known.barcode = incoming.barcode)
               ORDER BY incoming.barcode
               ON CONFLICT (barcode) DO NOTHING
               RETURNING barcode
           )
           SELECT barcode AS "barcode!", true AS "is_new!" FROM inserted
           UNION ALL
           SELECT barcode, false FROM updated"#,
        Json(products) as _,
    )
    .fetch_all(conn)
    .await?;
    Ok(changed.into_iter().map(|row| (row.barcode, row.is_new)).collect())
}

async fn upsert_levels(conn: &mut PgConnection, products: &[&Product]) -> sqlx::Result<()> {
    sqlx::query!(
        "INSERT INTO catalog.nutrient_levels (barcode, fat, saturated_fat, sugars, salt)
         SELECT * FROM jsonb_to_recordset($1)
              AS product (barcode text, fat text, saturated_fat text, sugars text, salt text)
         ON CONFLICT (barcode) DO UPDATE
         SET fat = excluded.fat, saturated_fat = excluded.saturated_fat, sugars = excluded.sugars, salt = excluded.salt",
        Json(products) as _,
    )
    .execute(conn)
    .await?;
    Ok(())
}

async fn replace_brands(conn: &mut PgConnection, barcodes: &[String], products: &[&Product]) -> sqlx::Result<()> {
    let pairs = products
        .iter()
        .flat_map(|product| product.brands.iter().map(|brand| (product.barcode.as_str().to_owned(), brand.clone())));
    let (of, brands): (Vec<String>, Vec<String>) = pairs.unzip();
    sqlx::query!(
        "INSERT INTO catalog.brands (name)
         SELECT DISTINCT name FROM unnest($1::text[]) AS brand (name)
         WHERE NOT EXISTS (SELECT FROM catalog.brands AS known WHERE known.name = brand.name)
         ORDER BY name
         ON CONFLICT (name) DO NOTHING",
        &brands,
    )
    .execute(&mut *conn)
    .await?;
    sqlx::query!("DELETE FROM catalog.product_brands WHERE barcode = ANY($1)", barcodes).execute(&mut *conn).await?;
    sqlx::query!(
        "INSERT INTO catalog.product_brands (barcode, brand_id)
         SELECT pair.barcode, brands.id
         FROM unnest($1::text[], $2::text[]) AS pair (barcode, name) JOIN catalog.brands USING (name)",
        &of,
        &brands,
    )
    .execute(conn)
    .await?;
    Ok(())
}
