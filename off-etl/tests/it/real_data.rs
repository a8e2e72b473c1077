//! Real Open Food Facts data, where it lies in `shared/data/open-food-facts` beside the project. It is under the ODbL and
//! not part of the project; without it these tests say so and pass.

use crate::{counts, import_file};
use off_testkit::Database;
use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

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
    let products: Vec<(String, String, String, String, Option<f64>, i16, String)> = sqlx::query_as(
        "SELECT lpad(barcode, 13, '0'), name, quantity, image_url, kcal_100g, nova_group, nutriscore_grade
         FROM catalog.products",
    )
    .fetch_all(&db.pool)
    .await
    .unwrap();
    for (barcode, name, quantity, image_url, kcal, nova, grade) in products {
        let fields = &expected[&barcode];
        assert_eq!([&name, &quantity, &image_url], [fields[1], fields[2], fields[4]], "{barcode}");
        assert_eq!([&nova.to_string(), &grade], [fields[6], fields[7]], "{barcode}");
        match (kcal, fields[5].parse::<f64>()) {
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
