//! Products for tests.

use chrono::DateTime;
use sqlx::PgPool;

/// The barcode of red lentils.
pub const LENTILS: &str = "2000000000015";
/// The barcode of green tea.
pub const TEA: &str = "2000000000022";
/// The barcode of oat biscuits.
pub const BISCUITS: &str = "2000000000039";

/// Inserts a product into the catalog.
pub async fn add_product(db: &PgPool, barcode: &str, name: &str) {
    sqlx::query(
        "INSERT INTO catalog.products (barcode, number, name, quantity, nova_group, nutriscore_grade, last_modified)
         SELECT $1, coalesce(max(number), 0) + 1, $2, '500 g', 1, 'a', $3 FROM catalog.products",
    )
    .bind(barcode)
    .bind(name)
    .bind(DateTime::UNIX_EPOCH)
    .execute(db)
    .await
    .expect("the product is inserted");
}
