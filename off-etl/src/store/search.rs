//! Keeps the words of the products up to date, by which people search the catalog.

use sqlx::{Acquire, PgConnection};

/// Product numbers that are compared in one statement.
pub(super) const STEP: i64 = 20_000;

/// The highest number of a product.
pub(super) async fn find_last_number(conn: &mut PgConnection) -> sqlx::Result<i64> {
    let last = sqlx::query_scalar!(r#"SELECT coalesce(max(number), 0) AS "last!" FROM catalog.products"#);
    last.fetch_one(conn).await
}

/// Takes the words of the products with numbers after `after` that are new or changed since their words were taken; returns
/// how many these are.
pub(super) async fn update_words(conn: &mut PgConnection, after: i64) -> sqlx::Result<u64> {
    let written = sqlx::query!(
        "INSERT INTO catalog.search (barcode, words, fingerprint)
         SELECT barcode,
                setweight(to_tsvector('catalog.words', name), 'A')
                    || setweight(to_tsvector('catalog.words', coalesce(brand.names, '')), 'B')
                    || setweight(to_tsvector('catalog.words', category.words), 'C')
                    || array_to_tsvector(coalesce(brand.lexemes, '{}') || category.lexemes),
                fingerprint
         FROM catalog.products
         CROSS JOIN LATERAL (
             SELECT string_agg(brands.name, ' ') AS names,
                    array_agg(DISTINCT '=brand:' || lower(brands.name)) AS lexemes
             FROM catalog.product_brands JOIN catalog.brands ON brands.id = brand_id
             WHERE product_brands.barcode = products.barcode
         ) AS brand
         CROSS JOIN LATERAL (
             -- Without the language, like in `en:green-teas`.
             SELECT coalesce(string_agg(regexp_replace(tag, '^[a-z]{2,3}:', ''), ' '), '') AS words,
                    coalesce(array_agg(DISTINCT '=category:' || tag), '{}') AS lexemes
             FROM unnest(categories) AS category (tag) WHERE tag <> ''
         ) AS category
         WHERE number > $1 AND number <= $1 + $2
           AND NOT EXISTS (SELECT FROM catalog.search
                           WHERE search.barcode = products.barcode AND search.fingerprint = products.fingerprint)
         ON CONFLICT (barcode) DO UPDATE SET words = excluded.words, fingerprint = excluded.fingerprint",
        after,
        STEP,
    );
    Ok(written.execute(conn).await?.rows_affected())
}

/// Counts in how many products each word is.
pub(super) async fn update_vocabulary(conn: &mut PgConnection) -> sqlx::Result<()> {
    let mut tx = conn.begin().await?;
    // All words are read, for which the usual time of a statement is too short.
    sqlx::query!("SET LOCAL statement_timeout = '10min'").execute(&mut *tx).await?;
    sqlx::query!(
        "WITH counted AS MATERIALIZED (
             SELECT word, ndoc FROM ts_stat('SELECT words FROM catalog.search')
             WHERE strpos(word, '=') = 0 AND length(word) BETWEEN 3 AND 40 AND word !~ '^[0-9]+$'
         ), gone AS (
             DELETE FROM catalog.vocabulary WHERE NOT EXISTS (SELECT FROM counted WHERE counted.word = vocabulary.word)
         )
         INSERT INTO catalog.vocabulary (word, products) SELECT word, ndoc FROM counted
         ON CONFLICT (word) DO UPDATE SET products = excluded.products
         WHERE vocabulary.products <> excluded.products"
    )
    .execute(&mut *tx)
    .await?;
    tx.commit().await
}
