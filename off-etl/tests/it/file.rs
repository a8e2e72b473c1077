//! Files with JSON lines, plain or gzip, and the sample.

use crate::{OnProgress, count_products, counts, find_product, import_file, options, reasons, record};
use flate2::{Compression, write::GzEncoder};
use nix::sys::resource::{UsageWho, getrusage};
use off_etl::{Damage, Export, Profile, Progress, import};
use off_testkit::Database;
use std::{io::Write, path::PathBuf, process::Command};
use tempfile::TempDir;

/// Writes a file with this content.
fn file(folder: &TempDir, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn a_record_becomes_a_product_with_brands_and_nutrient_levels() {
    let (db, folder) = (Database::new().await, tempfile::tempdir().unwrap());
    let lines = record("2000000000015", "Red &amp; small lentils", 1_700_000_000);
    let report = import_file(&db, &file(&folder, "one.jsonl", lines.as_bytes())).await.unwrap();
    assert_eq!(counts(&report), [1, 1, 0, 0, 0]);
    insta::assert_json_snapshot!(find_product(&db.pool, "2000000000015").await, @r#"
    {
      "name": "Red & small lentils",
      "quantity": "500 g",
      "kcal_100g": 345.0,
      "nova_group": 1,
      "nutriscore_score": -3,
      "nutriscore_grade": "a",
      "fat": "low",
      "saturated_fat": "low",
      "sugars": "moderate",
      "salt": "high",
      "brands": [
        "hollow-oak",
        "mill-lane"
      ],
      "categories": [
        "en:legumes"
      ],
      "image_url": "https://images.openfoodfacts.org/images/products/200/000/000/0015/front_en.3.400.jpg",
      "obsolete": false
    }
    "#);
}

#[tokio::test]
async fn only_a_newer_record_replaces_a_product() {
    let (db, folder) = (Database::new().await, tempfile::tempdir().unwrap());
    let lines =
        [record("2000000000015", "Newer", 200), record("2000000000015", "Older", 100), record("20", "Other", 1)];
    let first = import_file(&db, &file(&folder, "first.jsonl", lines.join("\n").as_bytes())).await.unwrap();
    assert_eq!(counts(&first), [3, 2, 0, 1, 0]);
    let again = import_file(&db, &folder.path().join("first.jsonl")).await.unwrap();
    assert_eq!(counts(&again), [3, 0, 0, 3, 0]);
    // Of two records that changed in the same second the more complete one stays.
    let less_complete = record("20", "Same time", 1).replace("\"energy-kcal_100g\": 345", "");
    let lines = [record("2000000000015", "Newest", 300), less_complete];
    let next = import_file(&db, &file(&folder, "next.jsonl", lines.join("\n").as_bytes())).await.unwrap();
    assert_eq!(counts(&next), [2, 0, 1, 1, 0]);
    let names: Vec<String> =
        sqlx::query_scalar("SELECT name FROM catalog.products ORDER BY name").fetch_all(&db.pool).await.unwrap();
    assert_eq!(names, ["Newest", "Other"]);
    // Updates do not take new numbers, so drawing a random product by number stays fast.
    let highest: i64 =
        sqlx::query_scalar("SELECT max(number) FROM catalog.products").fetch_one(&db.pool).await.unwrap();
    assert_eq!(highest, 2);
}

#[tokio::test]
async fn a_bad_record_is_rejected_with_its_reason() {
    let (db, folder) = (Database::new().await, tempfile::tempdir().unwrap());
    let good = record("2000000000015", "Good", 1);
    let lines = [
        good.clone(),
        "not json".to_owned(),
        "[]".to_owned(),
        String::new(),
        good[..good.len() / 2].to_owned(),
        record("2-KG-PACK", "No barcode", 1),
        record("2000000000022", "", 1),
        record("2000000000039", "Bad nova", 1).replace("\"nova_group\": 1", "\"nova_group\": 7"),
        record("2000000000046", "Bad grade", 1).replace("\"a\"", "\"unknown\""),
        record("2000000000053", "Also good", 1),
    ];
    let report = import_file(&db, &file(&folder, "mixed.jsonl", lines.join("\n").as_bytes())).await.unwrap();
    assert_eq!(counts(&report), [9, 2, 0, 0, 7]);
    let expected = [
        ("not JSON, or not an object", 3),
        ("no barcode, or one that is not digits", 1),
        ("no name", 1),
        ("NOVA group absent or outside 1 to 4", 1),
        ("Nutri-Score grade absent or outside a to e", 1),
    ];
    assert_eq!(reasons(&report), expected.map(|(reason, count)| (reason.to_owned(), count)));
}

#[tokio::test]
async fn only_an_overlong_line_is_rejected() {
    let (db, folder) = (Database::new().await, tempfile::tempdir().unwrap());
    let endless = "x".repeat(40 * 1024 * 1024);
    let lines = [record("2000000000015", "Before", 1), endless, record("2000000000022", "After", 1)];
    let report = import_file(&db, &file(&folder, "long.jsonl", lines.join("\n").as_bytes())).await.unwrap();
    assert_eq!(counts(&report), [3, 2, 0, 0, 1]);
    assert_eq!(reasons(&report), [("longer than 4 MiB".to_owned(), 1)]);
}

#[tokio::test]
async fn the_length_of_a_line_does_not_affect_the_next_line() {
    let (db, folder) = (Database::new().await, tempfile::tempdir().unwrap());
    let long = |code: &str, mebibytes: usize| record(code, &"x".repeat(mebibytes * 1024 * 1024), 1);
    // 5 MiB are too long, whatever the length of the line before.
    let lines = [
        long("2000000000015", 3),
        long("2000000000022", 5),
        record("2000000000039", "Tea", 1),
        long("2000000000046", 5),
    ];
    let report = import_file(&db, &file(&folder, "long.jsonl", lines.join("\n").as_bytes())).await.unwrap();
    assert_eq!(counts(&report), [4, 2, 0, 0, 2]);
}

/// Peak memory of the largest child process that has ended, in megabytes.
fn max_memory_of_children() -> i64 {
    getrusage(UsageWho::RUSAGE_CHILDREN).unwrap().max_rss() / 1000
}

#[test]
fn long_lines_do_not_accumulate_in_memory() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("long.jsonl");
    // Written line by line: until its exec, a child counts the memory of its parent.
    let mut lines = std::fs::File::create(&path).unwrap();
    let long = "x".repeat(4_000_000);
    for number in 0..60 {
        let line = record(&format!("20{number:011}"), "Lentils", 1);
        writeln!(lines, "{{\"ingredients_text\": \"{long}\", {}", &line[1..]).unwrap();
    }
    let output = Command::new(env!("CARGO_BIN_EXE_off-etl")).arg(path).arg("--dry-run").output().unwrap();
    let report = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && report.contains(" products  60"), "{report}");
    let memory = max_memory_of_children();
    assert!((4..200).contains(&memory), "{memory} MB");
}

#[tokio::test]
async fn gzip_is_read_in_one_member_or_several() {
    let (db, folder) = (Database::new().await, tempfile::tempdir().unwrap());
    let mut bytes = gzip((record("2000000000015", "One", 1) + "\n").as_bytes());
    bytes.extend(gzip(record("2000000000022", "Two", 1).as_bytes()));
    let report = import_file(&db, &file(&folder, "two.jsonl.gz", &bytes)).await.unwrap();
    assert_eq!(counts(&report), [2, 2, 0, 0, 0]);
}

/// `count` records as lines, numbered from `first`.
fn lines(first: usize, count: usize) -> String {
    (first..first + count).map(|number| record(&format!("20{number:011}"), "Lentils", 1) + "\n").collect()
}

/// Imports damaged `bytes`. Returns the number of products and the error.
async fn read_damaged(name: &str, bytes: &[u8]) -> (i64, String) {
    let (db, folder) = (Database::new().await, tempfile::tempdir().unwrap());
    let error = import_file(&db, &file(&folder, name, bytes)).await.unwrap_err();
    assert!(error.is::<Damage>(), "{error:#}");
    (count_products(&db.pool).await, format!("{error:#}"))
}

#[tokio::test]
async fn records_before_a_truncation_are_kept() {
    let whole = gzip(lines(0, 3000).as_bytes());
    for length in [5, 20, 40] {
        let (kept, text) = read_damaged("cut.jsonl.gz", &whole[..length]).await;
        assert!(kept == 0 && text.contains(&format!("damaged near byte {length}, after line 0: it ends in")), "{text}");
    }
    let (kept, text) = read_damaged("cut.jsonl.gz", &whole[..whole.len() / 2]).await;
    assert!((1400..1600).contains(&kept), "{kept} products were kept");
    let place = format!("cut.jsonl.gz is damaged near byte {}, after line {kept}: it ends in", whole.len() / 2);
    assert!(text.contains(&place), "{text}");
}

#[tokio::test]
async fn records_before_a_corrupt_block_are_kept() {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(lines(0, 100).as_bytes()).unwrap();
    // Ends a deflate block.
    encoder.flush().unwrap();
    let block = encoder.get_ref().len();
    encoder.write_all(lines(100, 100).as_bytes()).unwrap();
    let mut packed = encoder.finish().unwrap();
    // An invalid block type.
    packed[block] = 0xff;
    let (kept, text) = read_damaged("corrupt.jsonl.gz", &packed).await;
    assert_eq!(kept, 100);
    let near = text.split("damaged near byte ").nth(1).unwrap().split(',').next().unwrap().parse::<usize>().unwrap();
    assert!(near.abs_diff(block) < 16 && text.contains("after line 100: "), "block at {block}: {text}");
}

#[tokio::test]
async fn records_before_trailing_garbage_are_kept() {
    // The last line of the first member has no line feed.
    let mut packed = gzip(lines(0, 100).trim_end().as_bytes());
    let end = packed.len();
    packed.extend(b"<html>an error page that a download ended with</html>");
    let (kept, text) = read_damaged("more.jsonl.gz", &packed).await;
    assert_eq!(kept, 100);
    assert!(text.contains(&format!("near byte {end}, after line 100: the data that follows is not gzip")), "{text}");
    // A member with a wrong checksum after a valid one.
    let mut packed = gzip(lines(0, 100).as_bytes());
    packed.extend(gzip(lines(100, 10).as_bytes()));
    let end = packed.len();
    packed[end - 8] ^= 1;
    let (kept, text) = read_damaged("sum.jsonl.gz", &packed).await;
    assert!(kept == 110 && text.contains("after line 110: "), "{kept}: {text}");
}

#[tokio::test]
async fn a_file_that_is_no_export_is_a_clear_error() {
    let (db, folder) = (Database::new().await, tempfile::tempdir().unwrap());
    let missing = import_file(&db, &folder.path().join("missing.jsonl")).await.unwrap_err();
    assert!(format!("{missing:#}").contains("missing.jsonl"), "{missing:#}");
    let directory = import_file(&db, folder.path()).await.unwrap_err();
    assert!(format!("{directory:#}").contains("is a folder"), "{directory:#}");
    let empty = import_file(&db, &file(&folder, "empty.jsonl", b"")).await.unwrap_err();
    assert!(format!("{empty:#}").contains("is empty"), "{empty:#}");
    for (content, found) in
        [("\n \n", "holds no records"), ("<!doctype html>", "HTML"), ("[{}]", "JSON array"), ("text", "not recognized")]
    {
        let error = import_file(&db, &file(&folder, "other.jsonl", content.as_bytes())).await.unwrap_err();
        assert!(format!("{error:#}").contains(found), "{error:#}");
    }
    let part = import_file(&db, &file(&folder, "whole.jsonl.part", b"{}")).await.unwrap_err();
    assert!(format!("{part:#}").contains("incomplete download"), "{part:#}");
}

#[tokio::test]
async fn the_sample_fills_a_catalog() {
    let db = Database::new().await;
    let mut last = 0;
    let mut observer = OnProgress(|progress: Progress| last = progress.bytes);
    let choice = Profile::Default.into();
    let report = import(&Export::Sample, options(&choice, Some(&db.pool)), &mut observer).await.unwrap().report;
    assert_eq!(counts(&report), [1000, 925, 0, 0, 75]);
    assert_eq!(count_products(&db.pool).await, 925);
    assert!(last > 500_000, "progress ends at byte {last}");
}
