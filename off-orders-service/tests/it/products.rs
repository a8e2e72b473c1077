//! The catalog as people search it.

use crate::Orders;
use off_testkit::{BISCUITS, LENTILS, TEA};
use serde_json::{Value, json};

/// What the importer does at its end, for the products of the tests: red lentils, green tea and oat biscuits.
async fn start_searchable() -> Orders {
    let orders = Orders::start().await;
    for statement in [
        "UPDATE catalog.products SET categories = '{en:teas}' WHERE name = 'Green tea'",
        "INSERT INTO catalog.search
         SELECT barcode, setweight(to_tsvector('catalog.words', name), 'A')
                || array_to_tsvector(ARRAY['=brand:rosie''s']) || array_to_tsvector(
                    ARRAY(SELECT '=category:' || tag FROM unnest(categories) AS category (tag))), fingerprint
         FROM catalog.products",
        "INSERT INTO catalog.vocabulary SELECT word, ndoc FROM ts_stat('SELECT words FROM catalog.search')",
    ] {
        sqlx::query(statement).execute(&orders.world.database.pool).await.unwrap();
    }
    orders
}

impl Orders {
    async fn products(&self, query: &str) -> Value {
        let answer = self.http().anonymous().get(&format!("/api/products?{query}")).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.body
    }
}

fn barcodes(page: &Value) -> Vec<&str> {
    page["products"].as_array().unwrap().iter().map(|product| product["barcode"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn products_are_found_by_words_brand_category_and_barcode() {
    let orders = start_searchable().await;
    for (query, found) in [
        ("q=lentils", &[LENTILS] as &[_]),
        ("q=RED+lent", &[LENTILS]),
        ("q=red+tea", &[]),
        ("q=oat+b%C3%AFscuits", &[BISCUITS]),
        ("brand=Rosie%27s&q=tea", &[TEA]),
        ("brand=nobody", &[]),
        ("category=en:teas", &[TEA]),
        ("category=en:teas&q=lentils", &[]),
        (&format!("q={TEA}"), &[TEA]),
        (&format!("barcodes={TEA},{LENTILS},99999999"), &[TEA, LENTILS]),
        ("", &[LENTILS, TEA, BISCUITS]),
        ("q=%27%29+%7C+%28", &[LENTILS, TEA, BISCUITS]),
    ] {
        assert_eq!(barcodes(&orders.products(query).await), found, "{query}");
    }
    let product = orders.http().anonymous().get(&format!("/api/products/{TEA}")).await.body;
    assert_eq!((&product["name"], &product["categories"]), (&json!("Green tea"), &json!(["en:teas"])));
    for unknown in ["99999999", "nonsense"] {
        assert_eq!(orders.http().anonymous().get(&format!("/api/products/{unknown}")).await.status, 404, "{unknown}");
    }
    for wrong in ["limit=0", "limit=101", "barcodes=x", "brand=a%5Cb", "page=x"] {
        let answer = orders.http().anonymous().get(&format!("/api/products?{wrong}")).await;
        assert_eq!((answer.status.as_u16(), answer.code()), (400, "invalid_query"), "{wrong}");
    }
    orders.end().await;
}

#[tokio::test]
async fn a_word_that_no_product_has_is_corrected() {
    let orders = start_searchable().await;
    for (query, corrected, found) in [
        ("lentlis", "lentils", LENTILS),
        ("redd+lentils", "red lentils", LENTILS),
        // Only the last word may go on.
        ("lent+red", "lentils red", LENTILS),
        ("biscits", "biscuits", BISCUITS),
    ] {
        let page = orders.products(&format!("q={query}")).await;
        assert_eq!((&page["corrected"], barcodes(&page)), (&json!(corrected), vec![found]), "{query}");
    }
    let page = orders.products("q=zzzzzzz").await;
    assert!(barcodes(&page).is_empty() && page.get("corrected").is_none(), "{page}");
    // Words that exist, but not together, are no error.
    assert!(orders.products("q=green+lentils").await.get("corrected").is_none());
    orders.end().await;
}

#[tokio::test]
async fn products_that_are_no_longer_sold_are_not_found_and_pages_follow_each_other() {
    let orders = start_searchable().await;
    let retire = "UPDATE catalog.products SET obsolete = true WHERE barcode = $1";
    sqlx::query(retire).bind(TEA).execute(&orders.world.database.pool).await.unwrap();
    assert_eq!(barcodes(&orders.products("q=tea").await), [""; 0]);
    assert_eq!(orders.products(&format!("barcodes={TEA}")).await["products"][0]["is_obsolete"], true);
    let first = orders.products("limit=1").await;
    assert_eq!((barcodes(&first), &first["next_page"]), (vec![LENTILS], &json!(2)));
    let second = orders.products("limit=1&page=2").await;
    assert!(barcodes(&second) == [BISCUITS] && second.get("next_page").is_none(), "{second}");
    orders.end().await;
}
