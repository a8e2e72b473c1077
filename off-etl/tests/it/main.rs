//! Tests of the importer through its public interface.

#![expect(clippy::unwrap_used, reason = "a failed helper fails the test that called it")]

mod any_order;
mod api;
mod download;
mod file;
mod oddities;
mod parquet;
mod process;
mod real_data;
mod tables;

use off_etl::{Choice, Imported, Profile, Report, SourceName, import};
use off_testkit::Database;
use sqlx::PgPool;
use std::path::Path;

/// Imports a file with the default profile. Damage is an error.
async fn import_file(db: &Database, path: &Path) -> anyhow::Result<Report> {
    let imported = import_with(&db.pool, path, &Profile::Default.into()).await?;
    match imported.damage {
        Some(damage) => Err(damage.into()),
        None => Ok(imported.report),
    }
}

async fn import_with(db: &PgPool, path: &Path, choice: &Choice) -> anyhow::Result<Imported> {
    import(&SourceName::File(path.to_owned()), choice, Path::new("."), Some(db), |_| {}).await
}

/// Read, loaded, updated, unchanged, rejected.
fn counts(report: &Report) -> [u64; 5] {
    [report.read, report.loaded, report.updated, report.unchanged, report.rejected_total()]
}

/// Reject reasons as the report shows them, with their counts.
fn reasons(report: &Report) -> Vec<(String, u64)> {
    report.rejected.iter().map(|(reason, tally)| (reason.to_string(), tally.count)).collect()
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
