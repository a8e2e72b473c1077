//! Tab-separated exports in both dialects yield the same products as JSON lines.

use crate::{
    OnProgress, count_products, counts, find_product, import_file, import_with, options, parquet::write_parquet,
    reasons, record,
};
use futures::FutureExt;
use off_etl::{Choice, Export, Filter, NoObserver, Profile, Progress, import};
use off_testkit::Database;
use sqlx::PgPool;
use std::{panic::AssertUnwindSafe, path::PathBuf};
use tempfile::TempDir;

const STATES: &str = "en:product-name-completed,en:brands-completed,en:quantity-completed,en:front-photo-selected,en:nutrition-facts-completed";

const HEADER: [&str; 15] = [
    "code",
    "url",
    "product_name",
    "quantity",
    "brands_tags",
    "categories_tags",
    "countries_tags",
    "states_tags",
    "nova_group",
    "nutriscore_score",
    "nutriscore_grade",
    "nutrient_levels_tags",
    "image_url",
    "energy-kcal_100g",
    "last_modified_t",
];

fn row(code: &str, name: &str) -> Vec<String> {
    [
        code,
        "http://example.org",
        name,
        "500 g",
        "xx:hollow-oak,mill-lane",
        "en:legumes",
        "en:france",
        STATES,
        "1",
        "-3",
        "a",
        "en:fat-in-low-quantity,en:salt-in-high-quantity",
        "https://images.example.org/1.jpg",
        "345.5",
        "1700000000",
    ]
    .map(str::to_owned)
    .to_vec()
}

fn table(rows: &[Vec<String>]) -> String {
    let mut text = HEADER.join("\t") + "\n";
    for row in rows {
        text += &(row.join("\t") + "\n");
    }
    text
}

fn write(folder: &TempDir, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

async fn name_of(db: &PgPool, barcode: &str) -> String {
    sqlx::query_scalar("SELECT name FROM catalog.products WHERE barcode = $1")
        .bind(barcode)
        .fetch_one(db)
        .await
        .unwrap()
}

async fn assert_lentils(db: &PgPool) {
    insta::assert_json_snapshot!(find_product(db, "2000000000015").await, @r#"
    {
      "name": "6\" lentils",
      "quantity": "500 g",
      "kcal_100g": 345.5,
      "nova_group": 1,
      "nutriscore_score": -3,
      "nutriscore_grade": "a",
      "fat": "low",
      "saturated_fat": null,
      "sugars": null,
      "salt": "high",
      "brands": [
        "hollow-oak",
        "mill-lane"
      ],
      "categories": [
        "en:legumes"
      ],
      "image_url": "https://images.example.org/1.jpg",
      "obsolete": false
    }
    "#);
}

#[tokio::test]
async fn quotation_marks_in_the_bulk_export_are_data() {
    let (db, folder) = (Database::new().await, tempfile::tempdir().unwrap());
    let mut one_too_many = row("2000000000022", "A");
    one_too_many.insert(3, "B".to_owned());
    let rows = [
        row("2000000000015", "6\" lentils"),
        row("2000000000039", "\"All day\" tea"),
        one_too_many,
        row("", "No code"),
        row("2000000000046", "Last"),
    ];
    let path = write(&folder, "products.csv", table(&rows));
    let report = import_file(&db, &path).await.unwrap();
    assert_eq!(counts(&report), [5, 3, 0, 0, 2]);
    let expected =
        [("a row with another number of columns than the header", 1), ("no barcode, or one that is not digits", 1)];
    assert_eq!(reasons(&report), expected.map(|(reason, count)| (reason.to_owned(), count)));
    // Line 4 of the file, counting the header.
    assert_eq!(report.rejected.values().next().unwrap().first, 4);
    assert_lentils(&db.pool).await;
}

#[tokio::test]
async fn crlf_line_ends_are_accepted_and_a_carriage_return_within_a_field_is_data() {
    let (db, folder) = (Database::new().await, tempfile::tempdir().unwrap());
    let rows = [row("2000000000015", "6\" lentils"), row("2000000000022", "Tea\rfrom the hill")];
    // CRLF line ends, empty lines before and after the header, and no end of the last line.
    let text = "\r\n".to_owned() + &table(&rows).replace('\n', "\r\n").replacen("\r\n", "\r\n\r\n", 1);
    let report = import_file(&db, &write(&folder, "products.csv", text.trim_end())).await.unwrap();
    assert_eq!(counts(&report), [2, 2, 0, 0, 0]);
    assert_lentils(&db.pool).await;
    assert_eq!(name_of(&db.pool, "2000000000022").await, "Tea from the hill");
}

#[tokio::test]
async fn an_unclosed_quotation_mark_rejects_4_mib_and_not_the_rest() {
    let (db, folder) = (Database::new().await, tempfile::tempdir().unwrap());
    let mut header = HEADER.map(str::to_owned);
    header[1] = "producer_version_id".to_owned();
    let mut text = header.join("\t") + "\n" + &row("2000000000015", "6 lentils").join("\t") + "\n";
    text += &row("2000000000022", "\"Tea").join("\t");
    text += &"\nfrom the hill".repeat(350_000);
    text += &("\n".to_owned() + &row("2000000000039", "Soup").join("\t"));
    let report = import_file(&db, &write(&folder, "export.csv", text)).await.unwrap();
    assert_eq!(reasons(&report)[0], ("longer than 4 MiB".to_owned(), 1));
    assert_eq!(report.rejected.values().next().unwrap().first, 3);
    assert_eq!(name_of(&db.pool, "2000000000039").await, "Soup");
}

#[tokio::test]
async fn the_websites_export_is_recognized_by_its_header() {
    let (db, folder) = (Database::new().await, tempfile::tempdir().unwrap());
    let quoted = |fields: &[String]| {
        fields.iter().map(|field| format!("\"{}\"", field.replace('"', "\"\""))).collect::<Vec<_>>().join("\t")
    };
    let header = HEADER.map(|name| if name == "url" { "producer_version_id" } else { name });
    let text = [
        header.join("\t"),
        quoted(&row("2000000000015", "6\" lentils")),
        quoted(&row("2000000000022", "Tea\nfrom\tthe hill")),
    ]
    .join("\n");
    let report = import_file(&db, &write(&folder, "export.csv", text)).await.unwrap();
    assert_eq!(counts(&report), [2, 2, 0, 0, 0]);
    assert_lentils(&db.pool).await;
    assert_eq!(name_of(&db.pool, "2000000000022").await, "Tea from the hill");
}

#[tokio::test]
async fn a_quotation_mark_within_a_field_does_not_join_rows() {
    let folder = tempfile::tempdir().unwrap();
    let mut rows = vec![row("2000000000015", "6\" lentils")];
    // Together they are longer than the maximum length of a row.
    rows.extend((0..20_000).map(|number| row(&format!("20{number:011}"), "\"Tea\" \"\"")));
    let text = table(&rows).replacen("url", "producer_version_id", 1);
    assert!(text.len() > 5 * 1024 * 1024);
    let source = Export::File(write(&folder, "export.csv", text));
    let report = import(&source, options(&Profile::Default.into(), None), &mut NoObserver).await.unwrap().report;
    assert_eq!((report.read, report.products), (20_001, 20_001), "{report}");
}

#[tokio::test]
async fn rows_of_the_websites_export_may_end_with_crlf_and_are_counted_in_lines() {
    let (db, folder) = (Database::new().await, tempfile::tempdir().unwrap());
    let mut header = HEADER.map(str::to_owned).to_vec();
    header[1] = "producer_version_id".to_owned();
    let one_too_few = row("2000000000046", "Soup")[1..].to_vec();
    let rows = [
        header,
        // A quotation mark within an unquoted field, and a quoted field with two lines.
        row("2000000000015", "6\" lentils"),
        row("2000000000022", "\"Tea\r\nfrom the hill\""),
        row("", "No code"),
        one_too_few,
        row("12\u{0}3", "NUL"),
        row("2000000000039", "Soup\rof the day"),
    ];
    let text = rows.map(|row| row.join("\t")).join("\r\n") + "\r\n\r\n";
    let choice = Choice { keep_rejects: true, ..Profile::Default.into() };
    let path = write(&folder, "export.csv", text);
    let report = import_with(&db.pool, &path, &choice).await.unwrap().report;
    assert_eq!(counts(&report), [6, 3, 0, 0, 3]);
    assert_lentils(&db.pool).await;
    assert_eq!(name_of(&db.pool, "2000000000022").await, "Tea from the hill");
    assert_eq!(name_of(&db.pool, "2000000000039").await, "Soup of the day");
    let rejects: Vec<(i64, String, Option<String>)> =
        sqlx::query_as("SELECT line, reason, code FROM catalog.rejects ORDER BY line")
            .fetch_all(&db.pool)
            .await
            .unwrap();
    let expected = [
        (5, "no barcode, or one that is not digits", None),
        (6, "a row with another number of columns than the header", None),
        (7, "no barcode, or one that is not digits", Some("12 3".to_owned())),
    ];
    assert_eq!(rejects, expected.map(|(line, reason, code)| (line, reason.to_owned(), code)));
}

#[tokio::test]
async fn filters_and_limits_are_applied() {
    let (db, folder) = (Database::new().await, tempfile::tempdir().unwrap());
    let mut spanish = row("2000000000022", "Té");
    spanish[6] = "en:spain".to_owned();
    let rows =
        [row("2000000000015", "6\" lentils"), spanish, row("2000000000039", "Soup"), row("2000000000046", "Last")];
    let path = write(&folder, "products.csv", table(&rows));
    let choice = |country: Option<&str>, limit: Option<u64>| Choice {
        filter: Filter { country: country.map(str::to_owned), limit, ..Filter::default() },
        ..Choice::from(Profile::Default)
    };
    let report = import_with(&db.pool, &path, &choice(Some("Spain"), None)).await.unwrap().report;
    assert_eq!((counts(&report), report.filtered_out), ([4, 1, 0, 0, 0], 3));
    let report = import_with(&db.pool, &path, &choice(None, Some(2))).await.unwrap().report;
    assert_eq!(counts(&report), [2, 1, 0, 1, 0]);

    // A dry run counts the same, and writes nothing.
    let before = count_products(&db.pool).await;
    let source = Export::File(path);
    let dry = import(&source, options(&choice(Some("france"), None), None), &mut NoObserver).await.unwrap().report;
    assert_eq!((dry.read, dry.products, dry.filtered_out, dry.new), (4, 3, 1, 0));
    assert_eq!(count_products(&db.pool).await, before);
}

#[tokio::test]
async fn tables_and_parquet_resume_in_the_middle() {
    let folder = tempfile::tempdir().unwrap();
    let products: Vec<(String, &str)> = (0..2600).map(|number| (format!("20{number:011}"), "Lentils")).collect();
    let rows: Vec<Vec<String>> = products.iter().map(|(code, name)| row(code, name)).collect();
    let quoted = table(&rows).replacen("url", "producer_version_id", 1);
    let in_parquet = folder.path().join("food.parquet");
    write_parquet(&in_parquet, &products);
    for path in [write(&folder, "bulk.csv", table(&rows)), write(&folder, "website.csv", quoted), in_parquet] {
        let db = Database::new().await;
        let (source, choice) = (Export::File(path), Choice::from(Profile::Default));
        // A panic after the first batch has the effect of a kill.
        let mut kill = OnProgress(|progress: Progress| assert!(progress.read < 2500, "killed"));
        let options = options(&choice, Some(&db.pool));
        let killed = AssertUnwindSafe(import(&source, options, &mut kill));
        assert!(killed.catch_unwind().await.is_err());
        let kept = count_products(&db.pool).await;
        assert!((2000..2600).contains(&kept), "{kept} products were kept of {source}");
        let report = import(&source, options, &mut NoObserver).await.unwrap().report;
        assert_eq!(counts(&report), [2600, 2600, 0, 0, 0], "{source}");
    }
}

#[tokio::test]
async fn of_two_records_of_the_same_second_the_same_one_stays_in_either_order() {
    let folder = tempfile::tempdir().unwrap();
    let (one, other) = (record("2000000000015", "One", 5), record("2000000000015", "Other", 5));
    let mut names = Vec::new();
    for lines in [[&one, &other], [&other, &one]] {
        let db = Database::new().await;
        let text = lines.map(String::as_str).join("\n");
        import_file(&db, &write(&folder, "two.jsonl", text)).await.unwrap();
        names.push(
            sqlx::query_scalar::<_, String>("SELECT name FROM catalog.products").fetch_one(&db.pool).await.unwrap(),
        );
    }
    assert_eq!(names[0], names[1]);
}
