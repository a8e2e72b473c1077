//! Prices of Open Prices become the list prices of products, and products without one get an invented price.

use crate::{counts, import_file, record};
use flate2::{Compression, write::GzEncoder};
use off_etl::{Damage, NoObserver, PriceChanges, PriceReport, import_prices};
use off_testkit::Database;
use parquet::{
    column::writer::ColumnWriter,
    data_type::ByteArray,
    file::{properties::WriterProperties, writer::SerializedFileWriter},
    schema::parser::parse_message_type,
};
use sqlx::{PgPool, raw_sql};
use std::{
    fs::File,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::Arc,
};
use tempfile::TempDir;

const LENTILS: &str = "2000000000015";
const TEA: &str = "2000000000022";
const RICE: &str = "2000000000039";

/// A price of an export: barcode, price, currency, date, discounted.
type Price<'a> = (&'a str, f64, &'a str, &'a str, Option<bool>);

/// The line of a price, with other fields around those that are read.
fn line((code, price, currency, date, is_discounted): Price<'_>) -> String {
    let is_discounted = is_discounted.map_or("null".to_owned(), |is_discounted| is_discounted.to_string());
    format!(
        r#"{{"id": 7, "product_code": "{code}", "price": {price}, "price_is_discounted": {is_discounted},
            "currency": "{currency}", "proof": {{"id": 1, "price": 9.99}}, "date": "{date}"}}"#
    )
    .replace('\n', " ")
}

fn lines(prices: &[Price<'_>]) -> String {
    prices.iter().map(|&price| line(price) + "\n").collect()
}

fn file(folder: &TempDir, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
    let path = folder.path().join(name);
    std::fs::write(&path, content).unwrap();
    path
}

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

/// Imports red lentils and tea, which are both legumes of 500 g.
async fn import_products(db: &Database, folder: &TempDir) {
    let products = [record(LENTILS, "Red lentils", 100), record(TEA, "Tea", 100)].join("\n");
    assert_eq!(counts(&import_file(db, &file(folder, "products.jsonl", products)).await.unwrap()), [2, 2, 0, 0, 0]);
}

async fn import(db: &Database, path: &Path) -> anyhow::Result<PriceReport> {
    import_prices(path, Some(&db.pool), &mut NoObserver).await
}

/// Imports prices. Returns how many are used, and what changed.
async fn import_lines(db: &Database, folder: &TempDir, prices: &[Price<'_>]) -> (u64, PriceChanges) {
    let report = import(db, &file(folder, "prices.jsonl", lines(prices))).await.unwrap();
    assert_eq!(report.read, report.used + report.rejected_total());
    (report.used, report.changes.unwrap())
}

/// The list price of a product, and where it comes from.
async fn list_price(db: &Database, barcode: &str) -> (i64, String) {
    sqlx::query_as("SELECT price_cents, price_source FROM catalog.products WHERE barcode = $1")
        .bind(barcode)
        .fetch_one(&db.pool)
        .await
        .unwrap()
}

fn observed(cents: i64) -> (i64, String) {
    (cents, "open-prices".to_owned())
}

fn invented(cents: i64) -> (i64, String) {
    (cents, "invented".to_owned())
}

async fn observed_prices(db: &Database) -> Vec<String> {
    let query = "SELECT concat_ws(' ', barcode, currency, price_cents, observations, newest)
                 FROM catalog.observed_prices ORDER BY 1";
    sqlx::query_scalar(query).fetch_all(&db.pool).await.unwrap()
}

/// The version and the place of every row that an import of prices may write.
async fn versions(db: &PgPool) -> Vec<String> {
    let query = "SELECT concat_ws(' ', barcode, xmin, xmax, ctid) FROM catalog.products
                 UNION ALL SELECT concat_ws(' ', barcode, currency, xmin, xmax, ctid) FROM catalog.observed_prices
                 ORDER BY 1";
    sqlx::query_scalar(query).fetch_all(db).await.unwrap()
}

/// Medians of three and of two prices in euros, one price in francs, and one of a product that the catalog does not have.
const PRICES: [Price<'_>; 7] = [
    (LENTILS, 2.0, "EUR", "2025-06-30", None),
    (LENTILS, 10.0, "EUR", "2025-06-01", Some(false)),
    (LENTILS, 4.015, "EUR", "2025-01-01", Some(false)),
    (LENTILS, 9.5, "CHF", "2025-05-01", None),
    (TEA, 1.0, "EUR", "2025-02-01", None),
    (TEA, 1.25, "EUR", "2025-03-01", None),
    (RICE, 4.0, "EUR", "2025-04-01", None),
];

const MEDIANS: [&str; 4] = [
    "2000000000015 CHF 950 1 2025-05-01",
    "2000000000015 EUR 402 3 2025-06-30",
    "2000000000022 EUR 113 2 2025-03-01",
    "2000000000039 EUR 400 1 2025-04-01",
];

#[tokio::test]
async fn the_medians_of_observed_prices_become_list_prices() {
    let (db, folder) = (Database::new().await, tempfile::tempdir().unwrap());
    import_products(&db, &folder).await;
    assert_eq!(list_price(&db, LENTILS).await, invented(169));
    let report = import(&db, &file(&folder, "prices.jsonl.gz", gzip(&lines(&PRICES)))).await.unwrap();
    assert_eq!((report.read, report.used), (7, 7));
    let changes = PriceChanges { new: 4, products: 2, ..PriceChanges::default() };
    assert_eq!(report.changes, Some(changes));
    assert_eq!(observed_prices(&db).await, MEDIANS);
    assert_eq!(list_price(&db, LENTILS).await, observed(402));
    assert_eq!(list_price(&db, TEA).await, observed(113));
}

#[tokio::test]
async fn parquet_yields_the_same_prices() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("prices.parquet");
    for (price, date) in [
        ("double price", "int32 date (DATE)"),
        ("float price", "binary date (UTF8)"),
        ("int32 price (DECIMAL(9,3))", "int64 date (TIMESTAMP(MILLIS,true))"),
        ("int64 price (DECIMAL(18,3))", "int64 date (TIMESTAMP(NANOS,true))"),
    ] {
        let db = Database::new().await;
        import_products(&db, &folder).await;
        write_parquet(&path, price, date);
        let report = import(&db, &path).await.unwrap();
        assert_eq!((report.read, report.used, report.rejected_total()), (8, 7, 1), "{price}, {date}");
        assert_eq!(report.rejected.values().next().unwrap().first, 8);
        assert_eq!(observed_prices(&db).await, MEDIANS, "{price}, {date}");
        assert_eq!(list_price(&db, LENTILS).await, observed(402));
    }
}

/// Writes the prices, and a row without values, in row groups of two, with these types of prices and dates.
fn write_parquet(path: &Path, price: &str, date: &str) {
    let schema = format!(
        "message schema {{ optional int64 id; optional binary product_code (UTF8); optional {price};
                           optional boolean price_is_discounted; optional binary currency (UTF8); optional {date}; }}"
    );
    let schema = Arc::new(parse_message_type(&schema).unwrap());
    let properties = Arc::new(WriterProperties::builder().build());
    let mut writer = SerializedFileWriter::new(File::create(path).unwrap(), schema, properties).unwrap();
    let rows: Vec<Option<Price<'_>>> = PRICES.into_iter().map(Some).chain([None]).collect();
    for rows in rows.chunks(2) {
        let mut group = writer.next_row_group().unwrap();
        let mut index = 0;
        while let Some(mut column) = group.next_column().unwrap() {
            write_column(column.untyped(), index, rows);
            column.close().unwrap();
            index += 1;
        }
        group.close().unwrap();
    }
    writer.close().unwrap();
}

/// Writes the values of a column by its position in the schema.
fn write_column(column: &mut ColumnWriter<'_>, index: usize, rows: &[Option<Price<'_>>]) {
    let present: Vec<Price<'_>> = rows.iter().flatten().copied().collect();
    let mut levels: Vec<i16> = rows.iter().map(|row| i16::from(row.is_some())).collect();
    let thousandths = |price: f64| (price * 1000.0).round();
    let seconds = |date: &str| date.parse::<chrono::NaiveDate>().unwrap().and_hms_opt(12, 0, 0).unwrap().and_utc();
    match column {
        ColumnWriter::ByteArrayColumnWriter(writer) => {
            let text = |&(code, _, currency, date, _): &Price<'_>| match index {
                1 => ByteArray::from(code),
                4 => ByteArray::from(currency),
                _ => ByteArray::from(date),
            };
            let texts: Vec<ByteArray> = present.iter().map(text).collect();
            writer.write_batch(&texts, Some(&levels), None).unwrap();
        }
        ColumnWriter::BoolColumnWriter(writer) => {
            levels = rows.iter().map(|row| i16::from(row.is_some_and(|row| row.4.is_some()))).collect();
            let discounts: Vec<bool> = present.iter().filter_map(|price| price.4).collect();
            writer.write_batch(&discounts, Some(&levels), None).unwrap();
        }
        ColumnWriter::DoubleColumnWriter(writer) => {
            let prices: Vec<f64> = present.iter().map(|price| price.1).collect();
            writer.write_batch(&prices, Some(&levels), None).unwrap();
        }
        ColumnWriter::FloatColumnWriter(writer) => {
            let prices: Vec<f32> = present.iter().map(|price| price.1.to_string().parse().unwrap()).collect();
            writer.write_batch(&prices, Some(&levels), None).unwrap();
        }
        ColumnWriter::Int32ColumnWriter(writer) => {
            let value = |&(_, price, _, date, _): &Price<'_>| match index {
                2 => format!("{}", thousandths(price)).parse().unwrap(),
                _ => date.parse::<chrono::NaiveDate>().unwrap().to_epoch_days(),
            };
            let values: Vec<i32> = present.iter().map(value).collect();
            writer.write_batch(&values, Some(&levels), None).unwrap();
        }
        ColumnWriter::Int64ColumnWriter(writer) => {
            let is_nanoseconds =
                writer.get_descriptor().logical_type_ref().is_some_and(|kind| format!("{kind:?}").contains("NANOS"));
            let value = |&(_, price, _, date, _): &Price<'_>| match index {
                0 => 7,
                2 => format!("{}", thousandths(price)).parse().unwrap(),
                _ if is_nanoseconds => seconds(date).timestamp_nanos_opt().unwrap(),
                _ => seconds(date).timestamp_millis(),
            };
            let values: Vec<i64> = present.iter().map(value).collect();
            writer.write_batch(&values, Some(&levels), None).unwrap();
        }
        _ => unreachable!("a column of another type"),
    }
}

fn program(folder: &TempDir, arguments: &[&str], db: &Database) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_off-etl"));
    command.current_dir(folder.path()).args(arguments).env("DATABASE_URL", &db.url).env("OFF_LOG", "error");
    command.output().unwrap()
}

/// The report that the program printed, without blanks at the ends of lines.
fn table(output: &Output) -> String {
    let lines: Vec<String> =
        String::from_utf8_lossy(&output.stdout).lines().map(|line| line.trim_end().to_owned()).collect();
    lines.join("\n")
}

#[tokio::test]
async fn prices_that_are_not_used_are_reported_by_reason() {
    let (db, folder) = (Database::new().await, tempfile::tempdir().unwrap());
    import_products(&db, &folder).await;
    let valid = (LENTILS, 2.0, "EUR", "2025-06-30", None);
    let dirt = [
        "no price".to_owned(),
        line(valid).replace("product_code", "category_tag"),
        line(("tomatoes", 1.0, "EUR", "2025-06-30", None)),
        line((LENTILS, 0.0, "EUR", "2025-06-30", None)),
        line((LENTILS, -3.0, "EUR", "2025-06-30", None)),
        line((LENTILS, 10_000.01, "EUR", "2025-06-30", None)),
        line((LENTILS, 5.0, "EURO", "2025-06-30", None)),
        line((LENTILS, 5.0, "EUR", "yesterday", None)),
        line((LENTILS, 5.0, "EUR", "2999-01-01", None)),
        line((LENTILS, 1.0, "EUR", "2025-06-30", Some(true))),
        line((LENTILS, 7.0, "EUR", "2024-06-29", None)),
        line((LENTILS, 4.0, "EUR", "2024-06-30", None)),
        line(valid),
    ];
    file(&folder, "prices.jsonl", dirt.join("\n"));
    let dry = program(&folder, &["prices", "prices.jsonl", "--dry-run"], &db);
    assert!(dry.status.success() && observed_prices(&db).await.is_empty());
    let output = program(&folder, &["prices", "prices.jsonl"], &db);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let (report, dry) = (table(&output), table(&dry));
    insta::assert_snapshot!(report, @r"
    prices.jsonl
     read                                             13
     used                                              2
     rejected                                         11
       not JSON, not an object, or longer than 4 MiB   1  first in 1
       no barcode, or one that is not digits           2  first in 2
       no price, or one that is not plausible          3  first in 4
       no currency, or an unknown one                  1  first in 7
       no date, or one in the future                   2  first in 8
       discounted                                      1  first in 10
       older than a year                               1  first in 11
     observed prices                                   1
       new                                             1
       updated                                         0
       unchanged                                       0
     no longer observed                                0
     products with another price                       1
    ");
    assert!(report.starts_with(&dry) && dry.ends_with("first in 11"), "{dry}");
    assert_eq!(observed_prices(&db).await, ["2000000000015 EUR 300 2 2025-06-30"]);
    assert_eq!(list_price(&db, LENTILS).await, observed(300));
}

#[tokio::test]
async fn the_same_prices_again_write_nothing() {
    let (db, folder) = (Database::new().await, tempfile::tempdir().unwrap());
    import_products(&db, &folder).await;
    import_lines(&db, &folder, &PRICES).await;
    let before = versions(&db.pool).await;
    let (used, changes) = import_lines(&db, &folder, &PRICES).await;
    assert_eq!((used, changes), (7, PriceChanges { unchanged: 4, ..PriceChanges::default() }));
    assert_eq!(versions(&db.pool).await, before);
}

#[tokio::test]
async fn an_import_of_products_uses_the_observed_prices() {
    let (db, folder) = (Database::new().await, tempfile::tempdir().unwrap());
    let francs_only = ("2000000000046", 6.0, "CHF", "2025-06-30", None);
    import_lines(&db, &folder, &[&PRICES[..], &[francs_only]].concat()).await;
    import_products(&db, &folder).await;
    let other = file(&folder, "other.jsonl", record(francs_only.0, "Cheese", 100));
    import_file(&db, &other).await.unwrap();
    assert_eq!(list_price(&db, LENTILS).await, observed(402));
    assert_eq!(list_price(&db, francs_only.0).await, invented(169));

    // Neither an unchanged product nor a newer record changes the price.
    let before = versions(&db.pool).await;
    assert_eq!(counts(&import_file(&db, &folder.path().join("products.jsonl")).await.unwrap()), [2, 0, 0, 2, 0]);
    assert_eq!(versions(&db.pool).await, before);
    let newer = file(&folder, "newer.jsonl", record(LENTILS, "Beluga lentils", 200).replace("500 g", "2 kg"));
    assert_eq!(counts(&import_file(&db, &newer).await.unwrap()), [1, 0, 1, 0, 0]);
    assert_eq!(list_price(&db, LENTILS).await, observed(402));
}

#[tokio::test]
async fn another_export_replaces_the_prices_of_its_products_only() {
    let (db, folder) = (Database::new().await, tempfile::tempdir().unwrap());
    import_products(&db, &folder).await;
    import_lines(&db, &folder, &PRICES).await;
    // The lentils are observed in francs only, those in euros are too old; the tea is not in this export.
    let next = [
        (LENTILS, 9.5, "CHF", "2026-06-30", None),
        (LENTILS, 8.5, "CHF", "2026-06-30", None),
        (LENTILS, 2.0, "EUR", "2025-06-29", None),
        (RICE, 4.0, "EUR", "2026-06-01", None),
    ];
    let (used, changes) = import_lines(&db, &folder, &next).await;
    assert_eq!((used, changes), (3, PriceChanges { new: 0, updated: 2, unchanged: 0, removed: 1, products: 1 }));
    let expected = [
        "2000000000015 CHF 900 2 2026-06-30",
        "2000000000022 EUR 113 2 2025-03-01",
        "2000000000039 EUR 400 1 2026-06-01",
    ];
    assert_eq!(observed_prices(&db).await, expected);
    assert_eq!(list_price(&db, LENTILS).await, invented(169));
    assert_eq!(list_price(&db, TEA).await, observed(113));
    // The price in euros is back.
    let (_, changes) = import_lines(&db, &folder, &PRICES).await;
    assert_eq!(changes, PriceChanges { new: 1, updated: 2, unchanged: 1, removed: 0, products: 1 });
    assert_eq!(list_price(&db, LENTILS).await, observed(402));
}

#[tokio::test]
async fn a_damaged_export_changes_no_price() {
    let (db, folder) = (Database::new().await, tempfile::tempdir().unwrap());
    import_products(&db, &folder).await;
    let many: String =
        (0..5000).map(|cents| line((LENTILS, f64::from(cents) + 1.0, "EUR", "2025-06-30", None)) + "\n").collect();
    let packed = gzip(&many);
    let cut = file(&folder, "cut.jsonl.gz", &packed[..packed.len() / 2]);
    let error = import(&db, &cut).await.unwrap_err();
    let text = format!("{error:#}");
    assert!(error.is::<Damage>() && text.contains("cut.jsonl.gz is damaged near byte"), "{text}");
    assert!(text.contains("after line ") && text.ends_with("No price was changed"), "{text}");
    assert_eq!(program(&folder, &["prices", "cut.jsonl.gz"], &db).status.code(), Some(3));
    assert!(observed_prices(&db).await.is_empty());
    assert_eq!(list_price(&db, LENTILS).await, invented(169));
}

#[tokio::test]
async fn a_file_without_prices_is_a_clear_error() {
    let (db, folder) = (Database::new().await, tempfile::tempdir().unwrap());
    import_products(&db, &folder).await;
    crate::parquet::write_parquet(&folder.path().join("food.parquet"), &[(LENTILS.to_owned(), "Lentils")]);
    file(&folder, "table.csv", "code\tproduct_name\n1\tTea\n");
    file(&folder, "empty.jsonl", "");
    file(&folder, "page.html", "<!doctype html>");
    for (name, expected) in [
        ("products.jsonl", "products.jsonl is no export of Open Prices: none of its 2 records is a price"),
        ("table.csv", "table.csv is no export of Open Prices: it is a table of products. It should be JSON lines"),
        ("food.parquet", "it is Parquet without a column `product_code`"),
        ("empty.jsonl", "is empty"),
        ("page.html", "HTML"),
        ("missing.jsonl", "missing.jsonl"),
    ] {
        let error = import(&db, &folder.path().join(name)).await.unwrap_err();
        assert!(format!("{error:#}").contains(expected), "{name}: {error:#}");
    }
    for (arguments, code, expected) in
        [(&["prices"][..], 2, "<FILE>"), (&["sample", "prices.jsonl"], 1, "prices.jsonl is a second source")]
    {
        let output = program(&folder, arguments, &db);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(code) && stderr.contains(expected), "{arguments:?}: {stderr}");
    }
}

#[tokio::test]
async fn prices_are_not_imported_beside_another_import() {
    let (db, folder) = (Database::new().await, tempfile::tempdir().unwrap());
    let path = file(&folder, "prices.jsonl", lines(&PRICES));
    let mut other = db.pool.acquire().await.unwrap();
    raw_sql("SELECT pg_advisory_lock(x'6f66662d65746c'::bigint)").execute(&mut *other).await.unwrap();
    let error = import(&db, &path).await.unwrap_err();
    assert!(format!("{error:#}").contains("another importer is running"), "{error:#}");
    other.close_on_drop();
    drop(other);
    assert!(import(&db, &path).await.is_ok());
}

/// The number of the migration that added prices.
const PRICES_MIGRATION: &str = "0022";

/// Applies the migrations whose numbers `is_wanted`.
async fn migrate(db: &PgPool, is_wanted: fn(&str) -> bool) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../off-migrations/migrations");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    for path in files.into_iter().filter(|path| is_wanted(path.file_name().unwrap().to_str().unwrap())) {
        let statements = std::fs::read_to_string(&path).unwrap();
        raw_sql(sqlx::AssertSqlSafe(statements)).execute(db).await.unwrap();
    }
}

#[tokio::test]
async fn products_of_before_get_a_price_of_their_own_from_the_next_import() {
    let (db, folder) = (Database::new().await, tempfile::tempdir().unwrap());
    import_products(&db, &folder).await;
    let fingerprint: i64 = sqlx::query_scalar("SELECT fingerprint FROM catalog.products WHERE barcode = $1")
        .bind(LENTILS)
        .fetch_one(&db.pool)
        .await
        .unwrap();
    let old = Database::empty().await;
    migrate(&old.pool, |name| name < PRICES_MIGRATION).await;
    sqlx::query(
        "INSERT INTO catalog.products (barcode, number, name, quantity, nova_group, nutriscore_grade, last_modified,
             last_updated, fingerprint)
         VALUES ($1, 1, 'Red lentils', '500 g', 1, 'a', to_timestamp(100), to_timestamp(100), $2)",
    )
    .bind(LENTILS)
    .bind(fingerprint)
    .execute(&old.pool)
    .await
    .unwrap();
    migrate(&old.pool, |name| name >= PRICES_MIGRATION).await;
    assert_eq!(list_price(&old, LENTILS).await, invented(299));
    let report = import_file(&old, &folder.path().join("products.jsonl")).await.unwrap();
    assert_eq!(counts(&report), [2, 1, 1, 0, 0]);
    assert_eq!(list_price(&old, LENTILS).await, invented(169));
}
