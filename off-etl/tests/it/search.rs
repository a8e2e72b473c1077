//! The words by which people search the catalog.

use crate::{import_file, record};
use off_testkit::Database;
use sqlx::PgPool;
use std::path::PathBuf;
use tempfile::TempDir;

fn file(folder: &TempDir, name: &str, lines: &[String]) -> PathBuf {
    let path = folder.path().join(name);
    std::fs::write(&path, lines.join("\n")).unwrap();
    path
}

/// The barcodes of the products with these words.
async fn find(db: &PgPool, words: &str) -> Vec<String> {
    let found = "SELECT barcode FROM catalog.search WHERE words @@ to_tsquery('catalog.words', $1) ORDER BY barcode";
    sqlx::query_scalar(found).bind(words).fetch_all(db).await.unwrap()
}

/// The versions of the rows, which change when they are written.
async fn versions(db: &PgPool) -> Vec<String> {
    let versions =
        "SELECT xmin::text FROM catalog.search UNION ALL SELECT xmin::text FROM catalog.vocabulary ORDER BY 1";
    sqlx::query_scalar(versions).fetch_all(db).await.unwrap()
}

#[tokio::test]
async fn a_product_is_found_by_its_words_as_soon_as_it_is_imported() {
    let (db, folder) = (Database::new().await, tempfile::tempdir().unwrap());
    let lines = [record("2000000000015", "Rote Linsen", 100), record("2000000000022", "Crème fraîche", 100)];
    import_file(&db, &file(&folder, "first.jsonl", &lines)).await.unwrap();
    for (words, found) in [
        ("linsen", &["2000000000015"] as &[_]),
        ("creme & fraiche", &["2000000000022"]),
        ("crème", &["2000000000022"]),
        // Of the brands and the category of all records of the tests.
        ("hollow & legumes", &["2000000000015", "2000000000022"]),
        ("'=brand:hollow-oak' & '=category:en:legumes'", &["2000000000015", "2000000000022"]),
        ("lentils", &[]),
        // The lexemes of whole brands and categories are no words.
        ("brand:* | category:*", &[]),
    ] {
        let found_by_words = if words.contains('=') {
            let found = "SELECT barcode FROM catalog.search WHERE words @@ $1::tsquery ORDER BY barcode";
            sqlx::query_scalar(found).bind(words).fetch_all(&db.pool).await.unwrap()
        } else {
            find(&db.pool, words).await
        };
        assert_eq!(found_by_words, found, "{words}");
    }
    let before = versions(&db.pool).await;

    // An unchanged file writes nothing; a newer record replaces the words of its product.
    import_file(&db, &file(&folder, "same.jsonl", &lines)).await.unwrap();
    assert_eq!(versions(&db.pool).await, before);
    let newer = [record("2000000000015", "Red lentils", 200)];
    import_file(&db, &file(&folder, "newer.jsonl", &newer)).await.unwrap();
    assert_eq!(find(&db.pool, "lentils").await, ["2000000000015"]);
    assert_eq!(find(&db.pool, "linsen").await, [""; 0]);
    let known: Vec<String> =
        sqlx::query_scalar("SELECT word FROM catalog.vocabulary WHERE word IN ('linsen', 'lentils', 'creme', 'crème')")
            .fetch_all(&db.pool)
            .await
            .unwrap();
    assert_eq!(known, ["creme", "lentils"]);
}
