//! Unusual records of real exports, and files that are no exports.

use crate::{count_products, counts, import_file, record};
use off_testkit::Database;
use sqlx::Row;
use std::path::PathBuf;
use tempfile::TempDir;

const CODE: &str = "2000000000015";

/// A valid record with these fields added; of a repeated field the last one counts.
fn with(code: &str, fields: &str) -> String {
    let valid = record(code, "Lentils", 1_700_000_000);
    format!("{}, {fields}}}", valid.strip_suffix('}').unwrap())
}

fn write(folder: &TempDir, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

async fn is_obsolete(db: &Database) -> bool {
    sqlx::query_scalar("SELECT obsolete FROM catalog.products WHERE barcode = $1")
        .bind(CODE)
        .fetch_one(&db.pool)
        .await
        .unwrap()
}

#[tokio::test]
async fn a_recomputed_record_replaces_the_older_one() {
    let (db, folder) = (Database::new().await, tempfile::tempdir().unwrap());
    let dump = |updated: i64, grade: &str, kcal: &str| {
        let lines: Vec<String> = (0..200)
            .map(|number| {
                let fields = format!(
                    r#""last_updated_t": {updated}, "nutriscore_grade": "{grade}", "nutriments": {{"energy-kcal_100g": {kcal}}}"#
                );
                with(&format!("20{number:011}"), &fields)
            })
            .collect();
        write(&folder, "dump.jsonl", lines.join("\n"))
    };
    import_file(&db, &dump(1_700_000_100, "b", "345")).await.unwrap();
    // A value that the newer record lacks is removed.
    let newer = import_file(&db, &dump(1_700_000_200, "c", "null")).await.unwrap();
    assert_eq!(counts(&newer), [200, 0, 200, 0, 0]);
    let older = import_file(&db, &dump(1_700_000_100, "b", "345")).await.unwrap();
    assert_eq!(counts(&older), [200, 0, 0, 200, 0]);
    let same: i64 =
        sqlx::query_scalar("SELECT count(*) FROM catalog.products WHERE nutriscore_grade = 'c' AND kcal_100g IS NULL")
            .fetch_one(&db.pool)
            .await
            .unwrap();
    assert_eq!(same, 200);
}

#[tokio::test]
async fn a_rejected_record_still_marks_its_product_as_no_longer_sold() {
    let (db, folder) = (Database::new().await, tempfile::tempdir().unwrap());
    let withdrawn = |changed: i64| {
        let fields = format!(r#""nutriscore_grade": "unknown", "obsolete": "on", "last_modified_t": {changed}"#);
        write(&folder, "withdrawn.jsonl", with(CODE, &fields))
    };
    let known = write(&folder, "known.jsonl", with(CODE, r#""obsolete": """#));
    import_file(&db, &known).await.unwrap();
    // A withdrawal older than the product has no effect.
    import_file(&db, &withdrawn(1_600_000_000)).await.unwrap();
    assert!(!is_obsolete(&db).await);
    let report = import_file(&db, &withdrawn(1_750_000_000)).await.unwrap();
    assert_eq!((counts(&report), report.withdrawn), ([1, 0, 0, 0, 1], 1));
    assert!(is_obsolete(&db).await);
    // Only a newer record takes the withdrawal back, an older dump does not.
    import_file(&db, &known).await.unwrap();
    assert!(is_obsolete(&db).await);
    let sold_again = write(&folder, "again.jsonl", with(CODE, r#""last_modified_t": 1760000000"#));
    import_file(&db, &sold_again).await.unwrap();
    assert!(!is_obsolete(&db).await);
}

#[tokio::test]
async fn a_file_that_is_no_export_is_refused_and_nothing_is_stored() {
    let (db, folder) = (Database::new().await, tempfile::tempdir().unwrap());
    let line = record(CODE, "Lentils", 1);
    for (name, bytes, expected) in [
        ("export.jsonl.zip", [b"PK\x03\x04\x14\0\0\0", line.as_bytes()].concat(), "it is a ZIP archive"),
        ("export.csv", format!("code,product_name\n{CODE},Oat {{drink}}\n").into_bytes(), "not separated by tabs"),
        ("page.json", format!("{{\"count\": 1, \"products\": [{line}]}}").into_bytes(), "jq -c '.products[]'"),
        ("pretty.json", line.replace(", \"", ",\n\"").into_bytes(), "jq -c ."),
        ("utf-16.jsonl", line.encode_utf16().flat_map(u16::to_le_bytes).collect(), "UTF-16"),
        ("words.txt", b"{these\n{are\n{words\n".to_vec(), "none of its 3 lines is a record"),
    ] {
        let refused = import_file(&db, &write(&folder, name, bytes)).await.unwrap_err().to_string();
        assert!(refused.contains(name) && refused.contains(expected), "{refused}");
    }
    assert_eq!(count_products(&db.pool).await, 0);
}

#[tokio::test]
async fn a_pipe_or_a_folder_is_a_clear_error() {
    let (db, folder) = (Database::new().await, tempfile::tempdir().unwrap());
    let pipe = folder.path().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    for (path, expected) in [(pipe.as_path(), "is a pipe"), (folder.path(), "is a folder")] {
        let refused = import_file(&db, path).await.unwrap_err().to_string();
        assert!(refused.contains(expected), "{refused}");
    }
}

#[tokio::test]
async fn contradicting_values_are_corrected_or_left_out() {
    let (db, folder) = (Database::new().await, tempfile::tempdir().unwrap());
    let lines = [
        with("2000000000015", r#""nutriments": {"energy-kcal_100g": 1475, "energy-kj_100g": 353}"#),
        with("2000000000022", r#""nutriments": {"energy-kcal_100g": 176, "energy-kj_100g": 176}"#),
        with("2000000000039", r#""quantity": ".33 l", "product_quantity": "33000", "product_quantity_unit": "ml""#),
        with("2000000000046", r#""quantity": "1", "product_quantity": 0, "product_quantity_unit": "g""#),
    ];
    let report = import_file(&db, &write(&folder, "odd.jsonl", lines.join("\n"))).await.unwrap();
    let corrected: Vec<_> =
        report.corrected.iter().map(|(correction, tally)| (correction.to_string(), tally.count)).collect();
    let expected = [
        ("a value of another type than usual", 1),
        ("an implausible number, left out", 1),
        ("more kcal than kJ, exchanged or left out", 2),
        ("an amount that the printed quantity contradicts", 1),
    ];
    assert_eq!(corrected, expected.map(|(correction, count)| (correction.to_owned(), count)));
    let rows =
        sqlx::query("SELECT kcal_100g, product_quantity, product_quantity_unit FROM catalog.products ORDER BY barcode")
            .fetch_all(&db.pool)
            .await
            .unwrap();
    let kcal: Vec<Option<f64>> = rows.iter().map(|row| row.get("kcal_100g")).collect();
    assert_eq!(kcal, [Some(353.0), None, Some(345.0), Some(345.0)]);
    let amount = |row: usize| {
        let amount: (Option<f64>, Option<String>) =
            (rows[row].get("product_quantity"), rows[row].get("product_quantity_unit"));
        amount
    };
    assert_eq!(amount(2), (Some(330.0), Some("ml".to_owned())));
    assert_eq!(amount(3), (None, None));
}
