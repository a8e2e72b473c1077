//! Tests with real data of Open Food Facts from `shared/data/open-food-facts` beside the project. The data is under the
//! ODbL and not part of the project; without it these tests print a message and pass.

use crate::{OnReport, api, counts, import_file, import_with, options, reasons};
use axum::response::IntoResponse;
use flate2::read::GzDecoder;
use off_etl::{Choice, DeltasConfig, NoObserver, Profile, Report, apply_deltas};
use off_testkit::Database;
use sqlx::Row;
use std::{
    collections::{BTreeSet, HashMap},
    io::Read,
    path::{Path, PathBuf},
};

#[expect(clippy::print_stderr, reason = "a skipped test prints why")]
fn real(name: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/open-food-facts/jsonl").join(name);
    if path.exists() {
        Some(path)
    } else {
        eprintln!("{} is missing: the test is skipped", path.display());
        None
    }
}

/// Asserts the counts of all reject reasons and corrections, each identified by a word of its text.
fn assert_totals(report: &Report, rejected: &[(&str, u64)], corrected: &[(&str, u64)]) {
    let corrections =
        report.corrected.iter().map(|(correction, tally)| (correction.to_string(), tally.count)).collect();
    for (found, expected) in [(reasons(report), rejected), (corrections, corrected)] {
        let is_same =
            |(found, expected): (&(String, u64), &(&str, u64))| found.0.contains(expected.0) && found.1 == expected.1;
        assert!(
            found.len() == expected.len() && found.iter().zip(expected).all(is_same),
            "{expected:?}, but\n{report}"
        );
    }
    assert_eq!(report.read, report.products + report.rejected_total() + report.filtered_out, "{report}");
}

#[tokio::test]
async fn documents_of_the_api_are_imported() {
    let Some(path) = real("product-documents-2026-07.jsonl.gz") else { return };
    let db = Database::new().await;
    let report = import_file(&db, &path).await.unwrap();
    // 331 have name, quantity, photo, NOVA group, grade and all tags but en:checked. Five of them occur twice. In three
    // cases the later record is newer, or of the same second with the greater fingerprint.
    assert_eq!(counts(&report), [1419, 326, 3, 2, 1088]);
    // Of 92 without a product_name 19 have another name; of 696 without a quantity 632 have a name. Tags are checked
    // before photos, and all records with all tags have a photo. The three impossible numbers are packs of more than a
    // ton. Two records have more kcal than kJ, at ratios that do not show an exchange.
    assert_totals(
        &report,
        &[("name", 73), ("quantity", 632), ("state tag", 154), ("NOVA", 124), ("grade", 105)],
        &[("number", 3), ("kcal", 2)],
    );
    // The profile `strict` needs en:checked, which hardly any record has.
    let strict = import_with(&db.pool, &path, &Profile::Strict.into()).await.unwrap().report;
    assert_eq!(counts(&strict), [1419, 0, 0, 1, 1418]);
    assert_totals(&strict, &[("name", 73), ("quantity", 632), ("state tag", 713)], &[]);
}

#[tokio::test]
async fn lines_of_the_export_are_rejected_for_the_right_reasons() {
    let Some(path) = real("dump-excerpt-2025.jsonl") else { return };
    let report = import_file(&Database::new().await, &path).await.unwrap();
    // The last one is the record whose code is only zeros.
    assert_eq!(counts(&report), [6, 0, 0, 0, 6]);
    assert_totals(&report, &[("barcode", 1), ("quantity", 2), ("state tag", 2), ("NOVA", 1)], &[]);
}

#[tokio::test]
async fn recorded_searches_are_imported_with_only_the_requested_fields() {
    let Some(path) = real("../api/search-coca-2025-06-size20-page1.json.gz") else { return };
    let pages = [path.clone(), PathBuf::from(path.to_str().unwrap().replace("page1", "page2"))].map(|path| {
        let mut page = String::new();
        GzDecoder::new(std::fs::File::open(path).unwrap()).read_to_string(&mut page).unwrap();
        page
    });
    let responses = pages.each_ref().map(|page| ([("content-type", "application/json")], page.clone()).into_response());
    let (fake, api) = api::start(responses.into(), 2).await;
    let db = Database::new().await;
    let report = api.import(options(&Profile::Default.into(), Some(&db.pool)), &mut NoObserver).await.unwrap();
    assert_eq!(counts(&report), [40, 32, 0, 0, 8]);
    // Seven have a product_quantity that is text, one has 0.
    let corrected = [("another type", 7), ("number", 1)];
    assert_totals(&report, &[("name", 2), ("state tag", 2), ("NOVA", 2), ("grade", 2)], &corrected);

    // Records with only the requested fields give the same result.
    let fields = fake.requests.lock().unwrap()[0].0["fields"].clone();
    let fields: Vec<&str> = fields.split(',').collect();
    let mut lines = String::new();
    for page in &pages {
        let page: serde_json::Value = serde_json::from_str(page).unwrap();
        for product in page["products"].as_array().unwrap() {
            let mut product = product.as_object().unwrap().clone();
            product.retain(|name, _| fields.contains(&name.as_str()));
            lines += &(serde_json::Value::Object(product).to_string() + "\n");
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("requested.jsonl");
    std::fs::write(&path, lines).unwrap();
    let again = import_file(&db, &path).await.unwrap();
    assert_eq!((again.rejected.clone(), again.unchanged), (report.rejected, 32), "{again}");
}

#[tokio::test]
async fn the_export_of_2026_yields_the_expected_products() {
    let Some(path) = real("dump-shape-derived.jsonl.gz") else { return };
    let db = Database::new().await;
    let report = import_file(&db, &path).await.unwrap();
    assert_eq!(counts(&report), [200, 65, 0, 0, 135]);
    assert_totals(&report, &[("quantity", 86), ("state tag", 12), ("NOVA", 16), ("grade", 21)], &[]);

    let expected = std::fs::read_to_string(path.with_file_name("dump-shape-derived.expected.tsv")).unwrap();
    let expected: HashMap<String, Vec<&str>> = expected
        .lines()
        .skip(1)
        .map(|line| line.split('\t').collect::<Vec<_>>())
        .map(|fields| (format!("{:0>13}", fields[0].trim_start_matches('0')), fields))
        .collect();
    let products = sqlx::query(
        "SELECT lpad(barcode, 13, '0') AS barcode, name, quantity, image_url, kcal_100g, nova_group, nutriscore_grade,
                extract(epoch FROM last_modified)::bigint AS last_modified,
                ARRAY(SELECT brands.name FROM catalog.product_brands JOIN catalog.brands ON brands.id = brand_id
                      WHERE product_brands.barcode = products.barcode ORDER BY name COLLATE \"C\") AS brands
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
        assert_eq!(product.get::<i64, _>("last_modified").to_string(), fields[8], "{barcode}");
        let brands: BTreeSet<&str> = fields[3].split(',').filter(|brand| !brand.is_empty()).collect();
        assert_eq!(product.get::<Vec<String>, _>("brands"), Vec::from_iter(brands), "{barcode}");
        match (product.get::<Option<f64>, _>("kcal_100g"), fields[5].parse::<f64>()) {
            (Some(kcal), Ok(expected)) => assert!((kcal - expected).abs() < 0.5, "{barcode}: {kcal} kcal"),
            (kcal, expected) => assert_eq!(kcal, expected.ok(), "{barcode}"),
        }
    }
}

#[tokio::test]
async fn documented_defects_are_corrected_or_rejected() {
    let Some(path) = real("defects-derived.jsonl") else { return };
    let report = import_file(&Database::new().await, &path).await.unwrap();
    // 28 lines are not empty. The truncated line and the one with NaN are not JSON. One code is not a number, one is
    // absent. Of two records with the same barcode the older one is ignored. Lines with invalid UTF-8, an unpaired
    // surrogate or a NUL are read all the same.
    assert_eq!(counts(&report), [28, 16, 0, 1, 11]);
    let rejected = [("JSON", 2), ("barcode", 2), ("state tag", 3), ("grade", 4)];
    let corrected = [("UTF-8", 1), ("surrogate", 1), ("control", 1), ("another type", 2), ("number", 1)];
    assert_totals(&report, &rejected, &corrected);
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
    assert_eq!(counts(&report), [490, 56, 0, 0, 434]);
    // One record has no quantity, and its only name is in another language, which the table lacks.
    let rejected =
        |name, quantity| [("name", name), ("quantity", quantity), ("state tag", 177), ("NOVA", 10), ("grade", 21)];
    // One has a product_quantity of 0.
    assert_totals(&report, &rejected(11, 215), &[("number", 1)]);
    let parquet = table.with_file_name("../parquet/food-2026-04.parquet");
    let report = import_file(&from_parquet, &parquet).await.unwrap();
    assert_eq!(counts(&report), [490, 56, 0, 0, 434]);
    assert_totals(&report, &rejected(10, 216), &[("number", 1)]);
    // The table has photo URLs; those of Parquet are built from barcode and revision.
    assert_eq!(products(&from_table).await, products(&from_parquet).await);
    let with_kcal = "SELECT count(*) FROM catalog.products WHERE kcal_100g IS NOT NULL";
    let kcal: i64 = sqlx::query_scalar(with_kcal).fetch_one(&from_parquet.pool).await.unwrap();
    // The table lacks most energy values.
    assert_eq!(kcal, 55);
    let kcal: i64 = sqlx::query_scalar(with_kcal).fetch_one(&from_table.pool).await.unwrap();
    assert_eq!(kcal, 23);
    // Importing the table after Parquet loses none of them.
    import_file(&from_parquet, &table).await.unwrap();
    let kcal: i64 = sqlx::query_scalar(with_kcal).fetch_one(&from_parquet.pool).await.unwrap();
    assert_eq!(kcal, 55);
}

#[tokio::test]
async fn the_exports_of_the_website_and_of_the_search_form_are_read() {
    let Some(website) = real("../csv/website-export-quoted-2024.csv.gz") else { return };
    // It has no photos, so every row is rejected; but rows with line feeds in them are read as one row.
    let report = import_with(&Database::new().await.pool, &website, &Profile::All.into()).await.unwrap().report;
    assert_eq!(counts(&report), [773, 0, 0, 0, 773]);
    assert_totals(&report, &[("barcode", 1), ("name", 35), ("quantity", 493), ("photo", 244)], &[]);
    // The table of the search form has display names of the states, with blanks between them.
    let search = website.with_file_name("search-export-2021.csv.gz");
    let report = import_file(&Database::new().await, &search).await.unwrap();
    assert_eq!(counts(&report), [1263, 445, 0, 0, 818]);
    let rejected = [("name", 18), ("quantity", 139), ("state tag", 341), ("NOVA", 236), ("grade", 84)];
    assert_totals(&report, &rejected, &[("HTML", 1), ("kcal", 4)]);
}

#[tokio::test]
async fn documented_defects_of_tables_are_rejected() {
    let Some(path) = real("../csv/defects-derived.csv") else { return };
    let report = import_with(&Database::new().await.pool, &path, &Profile::All.into()).await.unwrap().report;
    // One row has a field too many, one is split in two by a line feed, one has no code.
    assert_eq!(counts(&report), [12, 1, 0, 0, 11]);
    assert_totals(&report, &[("columns", 3), ("barcode", 1), ("quantity", 1), ("photo", 6)], &[]);
}

#[tokio::test]
async fn real_deltas_are_applied_in_order() {
    let Some(index) = real("../delta/index.txt") else { return };
    let db = Database::new().await;
    let folder = index.parent().unwrap().to_str().unwrap().to_owned();
    let config = DeltasConfig { deltas_from: folder, deltas_every: None };
    let mut read = Vec::new();
    let choice = Choice::from(Profile::Default);
    let mut observer =
        OnReport(|name: &str, report: &Report| read.push((name.to_owned(), report.read, report.products)));
    apply_deltas(&config, options(&choice, Some(&db.pool)), &mut observer).await.unwrap();
    assert_eq!(read.iter().map(|(_, read, products)| (*read, *products)).collect::<Vec<_>>(), [(5, 1), (7, 4)]);
    assert!(read[0].0 < read[1].0, "not in order, oldest first");
}
