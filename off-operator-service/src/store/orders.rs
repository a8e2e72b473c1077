//! The query for a single order.

use off_events::Order;
use sqlx::PgPool;

/// Whether there is an order with the facts of `order` that never change.
pub(crate) async fn is_placed(db: &PgPool, order: &Order) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"SELECT EXISTS (
               SELECT FROM orders.product_orders
               WHERE id = $1 AND ssd_id = $2 AND user_id = $3 AND barcode = $4 AND quantity = $5 AND unit_price = $6
                 AND unit_price * quantity = $7
           ) AS "is_placed!""#,
        order.id.0,
        order.ssd_id.0,
        order.user_id.0,
        order.barcode.as_str(),
        order.quantity.get(),
        order.unit_price.cents(),
        order.total.cents(),
    )
    .fetch_one(db)
    .await
}
