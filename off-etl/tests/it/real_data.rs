//! Real Open Food Facts data, where it lies in `shared/data/open-food-facts` beside the project. It is under the ODbL and
//! not part of the project; without it these tests say so and pass.

use crate::{counts, import_file};
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
    // 331 keep today's rules, two of them twice or more; one more is rejected here for its Nutri-Score above 40.
    assert_eq!(counts(&report), [1419, 325, 1, 4, 1089]);
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
