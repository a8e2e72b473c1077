//! Products of the catalog.

use super::unreadable;
use crate::domain::{NutrientLevels, Product};
use off_events::{Barcode, Money};
use sqlx::PgPool;

/// Of the products that a search finds, so many are ranked. Otherwise a word that most products have would take seconds.
pub(crate) const MAX_RANKED: i64 = 1000;

/// A search in the language of the database.
#[derive(Debug)]
pub(crate) struct Terms {
    /// Words, as `to_tsquery` reads them; may be empty.
    pub(crate) words: String,
    /// Lexemes of whole brands and categories, as `tsquery` reads them; may be empty.
    pub(crate) exact: String,
}

/// A product with its brands.
#[derive(Debug)]
struct ProductRow {
    barcode: String,
    name: String,
    quantity: String,
    brands: Vec<String>,
    categories: Vec<String>,
    image_url: Option<String>,
    nutriscore_grade: String,
    nova_group: i16,
    kcal_100g: Option<f64>,
    fat: Option<String>,
    saturated_fat: Option<String>,
    sugars: Option<String>,
    salt: Option<String>,
    price_cents: i64,
    price_source: String,
    obsolete: bool,
}

impl ProductRow {
    fn into_product(self) -> sqlx::Result<Product> {
        let Self { fat, saturated_fat, sugars, salt, .. } = self;
        Ok(Product {
            barcode: self.barcode.parse().map_err(unreadable)?,
            name: self.name,
            quantity: self.quantity,
            brands: self.brands,
            categories: self.categories,
            image_url: self.image_url,
            nutriscore: self.nutriscore_grade,
            nova_group: self.nova_group,
            kcal_100g: self.kcal_100g,
            nutrient_levels: NutrientLevels { fat, saturated_fat, sugars, salt },
            unit_price: Money::from_cents(self.price_cents).map_err(unreadable)?,
            price_source: self.price_source,
            is_obsolete: self.obsolete,
        })
    }
}

/// The products with these barcodes, in the order of the barcodes. Those that are no longer sold are among them.
pub(crate) async fn find_products(db: &PgPool, barcodes: &[Barcode]) -> sqlx::Result<Vec<Product>> {
    let barcodes: Vec<&str> = barcodes.iter().map(Barcode::as_str).collect();
    let rows = sqlx::query_as!(
        ProductRow,
        r#"SELECT product.barcode, name, quantity, categories, image_url, nutriscore_grade, nova_group, kcal_100g,
                  fat, saturated_fat, sugars, salt, price_cents, price_source, obsolete,
                  ARRAY(SELECT brands.name FROM catalog.product_brands JOIN catalog.brands ON brands.id = brand_id
                        WHERE product_brands.barcode = product.barcode ORDER BY brands.name) AS "brands!"
           FROM unnest($1::text[]) WITH ORDINALITY AS wanted (barcode, position)
           JOIN catalog.products AS product ON product.barcode = wanted.barcode
           LEFT JOIN catalog.nutrient_levels ON nutrient_levels.barcode = product.barcode
           ORDER BY position"#,
        &barcodes as _,
    );
    rows.fetch_all(db).await?.into_iter().map(ProductRow::into_product).collect()
}

/// The products that are sold, in the order of the import.
pub(crate) async fn list_products(db: &PgPool, limit: i64, offset: i64) -> sqlx::Result<Vec<Product>> {
    let barcodes = sqlx::query_scalar!(
        "SELECT barcode FROM catalog.products WHERE NOT obsolete ORDER BY number LIMIT $1 OFFSET $2",
        limit,
        offset,
    );
    let barcodes = barcodes.fetch_all(db).await?;
    find_products(db, &parse(barcodes)?).await
}

/// The products that match, the best first.
pub(crate) async fn search_products(db: &PgPool, terms: &Terms, limit: i64, offset: i64) -> sqlx::Result<Vec<Product>> {
    let barcodes = sqlx::query_scalar!(
        r#"WITH wanted AS MATERIALIZED (
               -- An empty query would be a notice of Postgres each time.
               SELECT CASE WHEN $1 <> '' THEN to_tsquery('catalog.words', $1) END AS words,
                      CASE WHEN $2 <> '' THEN $2::text::tsquery END AS exact
           ), found AS MATERIALIZED (
               SELECT search.barcode, ts_rank(search.words, wanted.words) AS rank
               FROM wanted, catalog.search
               WHERE search.words @@ coalesce(wanted.words && wanted.exact, wanted.words, wanted.exact) LIMIT $5
           )
           SELECT found.barcode FROM found JOIN catalog.products USING (barcode)
           WHERE NOT obsolete ORDER BY rank DESC, number LIMIT $3 OFFSET $4"#,
        terms.words,
        terms.exact,
        limit,
        offset,
        MAX_RANKED,
    );
    let barcodes = barcodes.fetch_all(db).await?;
    find_products(db, &parse(barcodes)?).await
}

fn parse(barcodes: Vec<String>) -> sqlx::Result<Vec<Barcode>> {
    barcodes.iter().map(|barcode| barcode.parse().map_err(unreadable)).collect()
}

/// The words, each that no product has replaced by the most similar one that a product has, if there is one.
pub(crate) async fn correct_words(db: &PgPool, words: &[String]) -> sqlx::Result<Vec<String>> {
    let corrected = sqlx::query_scalar!(
        r#"SELECT coalesce(
                      (SELECT word FROM catalog.vocabulary WHERE vocabulary.word = public.unaccent(given.word)),
                      (SELECT word FROM catalog.vocabulary
                       WHERE vocabulary.word % public.unaccent(given.word)
                       ORDER BY public.similarity(vocabulary.word, public.unaccent(given.word)) DESC, products DESC, word
                       LIMIT 1),
                      given.word) AS "word!"
           FROM unnest($1::text[]) WITH ORDINALITY AS given (word, position)
           ORDER BY position"#,
        words,
    );
    corrected.fetch_all(db).await
}

/// Returns the first drawn product that is still sold. Each draw is a position in the catalog, from 0 to less than 1,
/// and all products are equally likely. Almost all products are still sold, so that 32 draws are enough. `None` means
/// an empty catalog, or very rarely that no drawn product is still sold.
pub(crate) async fn find_drawn_barcode(db: &PgPool, draws: &[f64]) -> sqlx::Result<Option<Barcode>> {
    let barcode = sqlx::query_scalar!(
        // Looked up one by one, and only until there is one: OFFSET 0 leaves no other way to join.
        "WITH drawn AS MATERIALIZED (
             SELECT 1 + floor(place * (SELECT max(number) FROM catalog.products))::bigint AS number
             FROM unnest($1::float8[]) AS draw (place)
         )
         SELECT found.barcode
         FROM drawn, LATERAL (SELECT barcode FROM catalog.products
                             WHERE products.number = drawn.number AND NOT products.obsolete OFFSET 0) AS found
         LIMIT 1",
        draws,
    )
    .fetch_optional(db)
    .await?;
    barcode.map(|barcode| barcode.parse().map_err(unreadable)).transpose()
}
