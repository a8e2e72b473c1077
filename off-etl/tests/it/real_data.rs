//! Real Open Food Facts data, where it lies in `shared/data/open-food-facts` beside the project. It is under the ODbL and
//! not part of the project; without it these tests say so and pass.

use crate::{counts, import_file, import_with, reasons};
use off_etl::{Choice, DeltasConfig, Profile, keep_up};
use off_testkit::Database;
use sqlx::Row;
use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

#[expect(clippy::print_stderr, reason = "a test that tests nothing has to say so")]
fn real(name: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/open-food-facts/jsonl").join(name);
    if path.exists() {
        Some(path)
    } else {
        eprintln!("{} is not there: nothing is tested", path.display());
        None
    }
}

#[tokio::test]
async fn documents_of_the_api() {
    let Some(path) = real("product-documents-2026-07.jsonl.gz") else { return };
    let report = import_file(&Database::new().await, &path).await.unwrap();
    // 331 keep today's rules, one of which is rejected here for its Nutri-Score above 40. Five of the 330 are there twice: three
    // times the later one changed later or in the same second and has the greater fingerprint.
    assert_eq!(counts(&report), [1419, 325, 3, 2, 1089]);
}

#[tokio::test]
async fn the_shape_of_the_export_of_2026() {
    let Some(path) = real("dump-shape-derived.jsonl.gz") else { return };
    let db = Database::new().await;
    let report = import_file(&db, &path).await.unwrap();
    assert_eq!(counts(&report), [200, 65, 0, 0, 135]);

    let expected = std::fs::read_to_string(path.with_file_name("dump-shape-derived.expected.tsv")).unwrap();
    let expected: HashMap<String, Vec<&str>> = expected
        .lines()
        .skip(1)
        .map(|line| line.split('\t').collect::<Vec<_>>())
        .map(|fields| (format!("{:0>13}", fields[0].trim_start_matches('0')), fields))
        .collect();
    let products = sqlx::query(
        "SELECT lpad(barcode, 13, '0') AS barcode, name, quantity, image_url, kcal_100g, nova_group, nutriscore_grade
         FROM catalog.products",
    )
    .fetch_all(&db.pool)
    .await
    .unwrap();
    for product in products {
        let barcode: String = product.get("barcode");
        let fields = &expected[&barcode];
        for (column, field) in [("name", 1), ("quantity", 2), ("image_url", 4), ("nutriscore_grade", 7)] {
            assert_eq!(product.get::<String, _>(column), fields[field], "{column} of {barcode}");
        }
        assert_eq!(product.get::<i16, _>("nova_group").to_string(), fields[6], "{barcode}");
        match (product.get::<Option<f64>, _>("kcal_100g"), fields[5].parse::<f64>()) {
            (Some(kcal), Ok(expected)) => assert!((kcal - expected).abs() < 0.5, "{barcode}: {kcal} kcal"),
            (kcal, expected) => assert_eq!(kcal, expected.ok(), "{barcode}"),
        }
    }
}

#[tokio::test]
async fn documented_defects() {
    let Some(path) = real("defects-derived.jsonl") else { return };
    let report = import_file(&Database::new().await, &path).await.unwrap();
    // 28 lines that are not empty; the truncated one and the one with NaN are no JSON. Of two with one barcode the
    // older is left out; the line with bytes that are no UTF-8 is read all the same.
    assert_eq!(counts(&report), [28, 16, 0, 1, 11]);
}

/// Barcode, name, quantity, photo, NOVA group, grade.
async fn products(db: &Database) -> Vec<(String, String, String, String, i16, String)> {
    sqlx::query_as(
        "SELECT barcode, name, quantity, image_url, nova_group, nutriscore_grade FROM catalog.products ORDER BY 1",
    )
    .fetch_all(&db.pool)
    .await
    .unwrap()
}

#[tokio::test]
async fn the_bulk_table_and_parquet_are_the_same_products() {
    let Some(table) = real("../csv/en.openfoodfacts.org.products-2026-04.csv.gz") else { return };
    let (from_table, from_parquet) = (Database::new().await, Database::new().await);
    let report = import_file(&from_table, &table).await.unwrap();
    // 56 keep today's rules, one of which has a Nutri-Score of 42.
    assert_eq!((report.read, report.products), (490, 55));
    let parquet = table.with_file_name("../parquet/food-2026-04.parquet");
    let report = import_file(&from_parquet, &parquet).await.unwrap();
    assert_eq!((report.read, report.products), (490, 55));
    // The table has the addresses of photos; those of Parquet are made by rule.
    assert_eq!(products(&from_table).await, products(&from_parquet).await);
    let with_kcal = "SELECT count(*) FROM catalog.products WHERE kcal_100g IS NOT NULL";
    let kcal: i64 = sqlx::query_scalar(with_kcal).fetch_one(&from_parquet.pool).await.unwrap();
    assert!(kcal > 50, "{kcal} of 55 have their energy");
}

#[tokio::test]
async fn the_websites_export_and_the_search_forms() {
    let Some(website) = real("../csv/website-export-quoted-2024.csv.gz") else { return };
    let all = Choice::from(Profile::All);
    let report = import_with(&Database::new().await.pool, &website, &all).await.unwrap().report;
    assert_eq!(report.read, 773);
    assert_eq!(reasons(&report).iter().find(|(reason, _)| reason.contains("columns")), None);
    assert_eq!(reasons(&report).iter().find(|(reason, _)| reason.contains("barcode")).unwrap().1, 1);
    let search = website.with_file_name("search-export-2021.csv.gz");
    let report = import_with(&Database::new().await.pool, &search, &all).await.unwrap().report;
    assert_eq!(report.read, 1263);
    assert!(report.products > 100, "{report}");
}

#[tokio::test]
async fn documented_defects_of_tables() {
    let Some(path) = real("../csv/defects-derived.csv") else { return };
    let report = import_file(&Database::new().await, &path).await.unwrap();
    let bad_rows = reasons(&report).iter().find(|(reason, _)| reason.contains("columns")).map(|(_, count)| *count);
    // One field too many, and the two halves of a row with a line feed in it.
    assert_eq!((report.read, bad_rows), (12, Some(3)), "{report}");
}

#[tokio::test]
async fn real_deltas() {
    let Some(index) = real("../delta/index.txt") else { return };
    let db = Database::new().await;
    let folder = index.parent().unwrap().to_str().unwrap().to_owned();
    let config = DeltasConfig { deltas_from: folder, deltas_every: None };
    let mut read = Vec::new();
    let choice = Choice::from(Profile::All);
    keep_up(&config, &choice, Path::new("."), Some(&db.pool), |name, report| read.push((name.to_owned(), report.read)))
        .await
        .unwrap();
    assert_eq!(read.iter().map(|(_, read)| *read).collect::<Vec<_>>(), [5, 7]);
    assert!(read[0].0 < read[1].0, "the oldest first");
}
