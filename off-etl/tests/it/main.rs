//! Tests of the importer through its public interface.

#![expect(clippy::unwrap_used, reason = "a failed helper fails the test that called it")]

mod any_order;
mod api;
mod download;
mod file;
mod parquet;
mod prices;
mod process;
mod real_data;
mod search;
mod tables;
mod unusual_records;

use off_etl::{Choice, Export, ImportOptions, Imported, NoObserver, Observer, Profile, Progress, Report, import};
use off_testkit::Database;
use serde::Serialize;
use sqlx::{FromRow, PgPool};
use std::path::Path;

/// Options for a source that needs no download; without a database it is a dry run.
fn options<'a>(choice: &'a Choice, db: Option<&'a PgPool>) -> ImportOptions<'a> {
    ImportOptions { choice, downloads: Path::new("."), db }
}

/// Imports a file with the default profile. Damage is an error.
async fn import_file(db: &Database, path: &Path) -> anyhow::Result<Report> {
    Ok(import_with(&db.pool, path, &Profile::Default.into()).await?.complete()?)
}

async fn import_with(db: &PgPool, path: &Path, choice: &Choice) -> anyhow::Result<Imported> {
    import(&Export::File(path.to_owned()), options(choice, Some(db)), &mut NoObserver).await
}

/// Calls the function with the progress of an import.
struct OnProgress<F>(F);

impl<F: FnMut(Progress)> Observer for OnProgress<F> {
    fn on_progress(&mut self, progress: Progress) {
        (self.0)(progress);
    }
}

/// Calls the function with the name and the report of each source or delta.
struct OnReport<F>(F);

impl<F: FnMut(&str, &Report)> Observer for OnReport<F> {
    fn on_report(&mut self, name: &str, report: &Report) {
        (self.0)(name, report);
    }
}

/// Read, new, updated, unchanged, rejected.
fn counts(report: &Report) -> [u64; 5] {
    [report.read, report.new, report.updated, report.unchanged, report.rejected_total()]
}

/// Reject reasons as the report shows them, with their counts.
fn reasons(report: &Report) -> Vec<(String, u64)> {
    report.rejected.iter().map(|(reason, tally)| (reason.to_string(), tally.count)).collect()
}

/// A product as the catalog has it, for snapshots.
#[derive(Debug, Serialize, FromRow)]
struct StoredProduct {
    name: String,
    quantity: String,
    kcal_100g: Option<f64>,
    nova_group: i16,
    nutriscore_score: Option<i16>,
    nutriscore_grade: String,
    fat: Option<String>,
    saturated_fat: Option<String>,
    sugars: Option<String>,
    salt: Option<String>,
    brands: Vec<String>,
    categories: Vec<String>,
    image_url: Option<String>,
    obsolete: bool,
}

async fn find_product(db: &PgPool, barcode: &str) -> StoredProduct {
    sqlx::query_as(
        "SELECT product.name, quantity, kcal_100g, nova_group, nutriscore_score, nutriscore_grade, fat, saturated_fat, sugars,
                salt, categories, image_url, obsolete,
                ARRAY(SELECT brands.name FROM catalog.product_brands JOIN catalog.brands ON brands.id = brand_id
                      WHERE product_brands.barcode = product.barcode ORDER BY 1) AS brands
         FROM catalog.products AS product JOIN catalog.nutrient_levels USING (barcode) WHERE barcode = $1",
    )
    .bind(barcode)
    .fetch_one(db)
    .await
    .unwrap()
}

async fn count_products(db: &PgPool) -> i64 {
    sqlx::query_scalar("SELECT count(*) FROM catalog.products").fetch_one(db).await.unwrap()
}

/// A valid record with this barcode, name and time of change.
fn record(code: &str, name: &str, last_modified: i64) -> String {
    format!(
        r#"{{"code": "{code}", "product_name": "{name}", "quantity": "500 g", "nova_group": 1, "nutriscore_grade": "a",
        "nutriscore_score": -3, "brands_tags": ["xx:hollow-oak", "mill-lane"], "categories_tags": ["en:legumes"],
        "images": {{"front_en": {{"rev": "3"}}}}, "nutriments": {{"energy-kcal_100g": 345}},
        "nutrient_levels": {{"fat": "low", "saturated-fat": "low", "sugars": "moderate", "salt": "high"}},
        "states_tags": ["en:product-name-completed", "en:brands-completed", "en:quantity-completed",
        "en:front-photo-selected", "en:nutrition-facts-completed"], "last_modified_t": {last_modified}}}"#
    )
    .replace('\n', " ")
}
