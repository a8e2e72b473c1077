//! Products with names of several words, for searches.

use rand::{RngExt, SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use sqlx::PgPool;
use std::collections::BTreeSet;

/// Brands of the products.
pub const BRANDS: i64 = 50_000;
/// Categories of the products.
pub const CATEGORIES: i64 = 3000;

const CONSONANTS: &[u8] = b"bcdfghjklmnprstvz";
const VOWELS: &[u8] = b"aeiou";

/// `count` different invented words of four to ten letters, the same in each run.
pub fn invent_words(count: usize) -> Vec<String> {
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let mut words = BTreeSet::new();
    while words.len() < count {
        let mut word = String::new();
        for _ in 0..random.random_range(2..=5) {
            for letters in [CONSONANTS, VOWELS] {
                word.push(char::from(letters[random.random_range(0..letters.len())]));
            }
        }
        words.insert(word);
    }
    let mut words = Vec::from_iter(words);
    words.shuffle(&mut random);
    words
}

/// Stores `count` products, numbered from 1, each with four of `words` in its name, a brand and a category. The first words
/// are much more frequent than the last, as in a language. The search does not find them yet: the importer takes their words.
pub async fn store_named(db: &PgPool, count: i64, words: &[String]) -> sqlx::Result<()> {
    let mut conn = db.acquire().await?;
    sqlx::query("CREATE TEMPORARY TABLE word AS SELECT * FROM unnest($1::text[]) WITH ORDINALITY AS word (text, rank)")
        .bind(words)
        .execute(&mut *conn)
        .await?;
    sqlx::query("SELECT setseed(0.5)").execute(&mut *conn).await?;
    sqlx::query(
        "WITH size AS (SELECT count(*) AS words FROM word), drawn AS MATERIALIZED (
             SELECT number, 1 + floor(power(random(), 4) * words)::bigint AS a, 1 + floor(power(random(), 4) * words)::bigint AS b,
                    1 + floor(power(random(), 4) * words)::bigint AS c, 1 + floor(power(random(), 3) * words)::bigint AS d
             FROM generate_series(1, $1) AS number, size
         )
         INSERT INTO catalog.products
             (barcode, number, name, quantity, nova_group, nutriscore_grade, categories, last_modified, fingerprint)
         SELECT lpad(number::text, 13, '2000000000000'), number, concat_ws(' ', a.text, b.text, c.text, d.text), '500 g', 1, 'a',
                ARRAY['en:category-' || number % $2], now(), number
         FROM drawn JOIN word AS a ON a.rank = drawn.a JOIN word AS b ON b.rank = drawn.b
                    JOIN word AS c ON c.rank = drawn.c JOIN word AS d ON d.rank = drawn.d",
    )
    .bind(count)
    .bind(CATEGORIES)
    .execute(&mut *conn)
    .await?;
    sqlx::query("INSERT INTO catalog.brands (name) SELECT 'Brand ' || number FROM generate_series(1, $1) AS number")
        .bind(BRANDS)
        .execute(&mut *conn)
        .await?;
    sqlx::query(
        "INSERT INTO catalog.product_brands (barcode, brand_id)
         SELECT barcode, brands.id
         FROM catalog.products JOIN catalog.brands ON brands.name = 'Brand ' || 1 + number * 7919 % $1",
    )
    .bind(BRANDS)
    .execute(&mut *conn)
    .await?;
    sqlx::query("DROP TABLE word").execute(&mut *conn).await?;
    sqlx::query("ANALYZE").execute(&mut *conn).await?;
    Ok(())
}
