//! The queries of the checks, and the products that clients order.

use chrono::{DateTime, Utc};
use sqlx::PgPool;
use uuid::Uuid;

/// What has not drained yet.
#[derive(Debug)]
pub(crate) struct Left {
    /// Orders that are not completed or not delivered.
    pub(crate) orders: i64,
    /// Messages that are not published.
    pub(crate) unpublished: i64,
    /// Shelf items that are low.
    pub(crate) low: i64,
}

impl Left {
    /// Counts what has not drained yet.
    pub(crate) async fn count(db: &PgPool) -> sqlx::Result<Self> {
        let left = sqlx::query_as!(
            Self,
            r#"SELECT (SELECT count(*) FROM orders.product_orders
                       WHERE status <> 'completed'
                          OR NOT EXISTS (SELECT FROM users.deliveries WHERE order_id = product_orders.id)) AS "orders!",
                      (SELECT count(*) FROM outbox.messages)
                      + (SELECT count(*) FROM orders.late_orders WHERE unpublished) AS "unpublished!",
                      (SELECT count(*) FROM users.shelf_items WHERE low_since IS NOT NULL) AS "low!""#
        );
        left.fetch_one(db).await
    }
}

/// A row of an order, with the number of deliveries that match it.
#[derive(Debug)]
pub(crate) struct OrderRow {
    pub(crate) id: Uuid,
    /// The idempotency key; empty if there is none.
    pub(crate) key: String,
    pub(crate) ssd_id: i64,
    pub(crate) barcode: String,
    pub(crate) quantity: i32,
    pub(crate) is_complete: bool,
    /// Whether its times are in chronological order.
    pub(crate) is_in_order: bool,
    pub(crate) is_shipping_known: bool,
    pub(crate) deliveries: i64,
}

/// Reads all orders.
pub(crate) async fn read_orders(db: &PgPool) -> sqlx::Result<Vec<OrderRow>> {
    sqlx::query_as!(
        OrderRow,
        r#"SELECT placed.id, coalesce(idempotency_key, '') AS "key!", placed.ssd_id, placed.barcode, placed.quantity,
                  status = 'completed' AS "is_complete!",
                  coalesce(placed_at <= completed_at AND coalesce(shipped_at BETWEEN placed_at AND completed_at, true), false)
                      AS "is_in_order!",
                  shipped_at IS NOT NULL AS "is_shipping_known!",
                  (SELECT count(*) FROM users.deliveries AS delivery
                   WHERE order_id = placed.id AND delivery.ssd_id = placed.ssd_id
                     AND delivery.barcode = placed.barcode AND delivery.quantity = placed.quantity) AS "deliveries!"
           FROM orders.product_orders AS placed"#
    )
    .fetch_all(db)
    .await
}

/// A row of a consumption report.
#[derive(Debug)]
pub(crate) struct ReportRow {
    pub(crate) ssd_id: i64,
    /// The id that the device gave the report.
    pub(crate) id: String,
    pub(crate) barcode: String,
    pub(crate) quantity: i32,
}

/// Reads all consumption reports.
pub(crate) async fn read_reports(db: &PgPool) -> sqlx::Result<Vec<ReportRow>> {
    let rows = sqlx::query_as!(ReportRow, "SELECT ssd_id, id, barcode, quantity FROM users.consumptions");
    rows.fetch_all(db).await
}

/// A shelf item that is low, or marked as low.
#[derive(Debug)]
pub(crate) struct LowShelfItem {
    pub(crate) ssd_id: i64,
    pub(crate) barcode: String,
    pub(crate) quantity: i32,
}

/// Finds the shelf items that are low, or marked as low.
pub(crate) async fn find_low_shelf_items(db: &PgPool) -> sqlx::Result<Vec<LowShelfItem>> {
    let low = sqlx::query_as!(
        LowShelfItem,
        "SELECT ssd_id, barcode, quantity FROM users.shelf_items
         WHERE low_since IS NOT NULL OR quantity <= reorder_point"
    );
    low.fetch_all(db).await
}

/// An order whose time of shipping was cleared.
#[derive(Debug)]
pub(crate) struct ClearedOrder {
    pub(crate) id: Uuid,
    pub(crate) ssd_id: i64,
    pub(crate) barcode: String,
    pub(crate) quantity: i32,
    pub(crate) placed_at: DateTime<Utc>,
}

/// Clears the time of shipping of the newest order.
pub(crate) async fn clear_shipping(db: &PgPool) -> sqlx::Result<ClearedOrder> {
    let order = sqlx::query_as!(
        ClearedOrder,
        "UPDATE orders.product_orders SET shipped_at = NULL
         WHERE id = (SELECT id FROM orders.product_orders ORDER BY id DESC LIMIT 1)
         RETURNING id, ssd_id, barcode, quantity, placed_at"
    );
    order.fetch_one(db).await
}

/// Whether the time of shipping of an order is known.
pub(crate) async fn is_shipping_known(db: &PgPool, order: Uuid) -> sqlx::Result<bool> {
    let shipped_at = sqlx::query_scalar!("SELECT shipped_at FROM orders.product_orders WHERE id = $1", order);
    Ok(shipped_at.fetch_one(db).await?.is_some())
}

/// The first `count` barcodes of the catalog.
pub(crate) async fn find_barcodes(db: &PgPool, count: i64) -> sqlx::Result<Vec<String>> {
    let barcodes = sqlx::query_scalar!("SELECT barcode FROM catalog.products ORDER BY barcode LIMIT $1", count);
    barcodes.fetch_all(db).await
}
