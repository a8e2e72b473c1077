//! Counts, and names of products.

use sqlx::PgPool;
use std::time::Duration;
use tokio::time::Instant;

/// The counts at one moment.
#[derive(Debug, Clone)]
pub(crate) struct Snapshot {
    pub(crate) taken_at: Instant,
    /// How long the queries took.
    pub(crate) cost: Duration,
    pub(crate) pending: i64,
    pub(crate) paid: i64,
    pub(crate) shipped: i64,
    pub(crate) completed: i64,
    /// Including those that were cancelled while they were being refused.
    pub(crate) refused: i64,
    pub(crate) cancelled: i64,
    pub(crate) households: i64,
    pub(crate) devices: i64,
    pub(crate) deliveries: i64,
    pub(crate) low: i64,
    pub(crate) unpublished: i64,
    /// The shelf items that have been low for the longest time.
    pub(crate) low_longest: Vec<LowShelfItem>,
}

/// A low shelf item, with the name of its product.
#[derive(Debug, Clone)]
pub(crate) struct LowShelfItem {
    pub(crate) ssd_id: i64,
    pub(crate) name: String,
    pub(crate) quantity: i32,
    /// How long it has been low.
    pub(crate) seconds: f64,
}

impl Snapshot {
    pub(crate) async fn read(pool: &PgPool) -> sqlx::Result<Self> {
        let started = Instant::now();
        // Orders up to the last checkpoint were counted when it passed them. Those of them that are not late are done: the
        // deliveries and the refusals tell how they ended.
        let counts = sqlx::query!(
            r#"WITH checked AS MATERIALIZED (SELECT through, orders FROM orders.checkpoints WHERE status = 'shipped'),
                    late AS MATERIALIZED (
                        SELECT id, status FROM orders.late_orders JOIN orders.product_orders ON id = order_id
                        WHERE order_id <= (SELECT through FROM checked)
                    ),
                    recent AS MATERIALIZED (
                        SELECT status FROM orders.product_orders WHERE id > (SELECT through FROM checked)
                        UNION ALL
                        SELECT status FROM late
                    ),
                    delivered AS MATERIALIZED (
                        SELECT count(*) - (SELECT count(*) FROM late JOIN users.deliveries ON order_id = id) AS orders
                        FROM users.deliveries WHERE order_id <= (SELECT through FROM checked)
                    ),
                    refused AS MATERIALIZED (
                        SELECT count(*) - (SELECT count(*) FROM late JOIN billing.refusals ON order_id = id
                                           WHERE reason = 'insufficient_funds') AS orders
                        FROM billing.refusals
                        WHERE order_id <= (SELECT through FROM checked) AND reason = 'insufficient_funds'
                    )
               SELECT checked.orders - (SELECT count(*) FROM late) - delivered.orders - refused.orders
                          + count(*) FILTER (WHERE status = 'cancelled') AS "cancelled!",
                      delivered.orders + count(*) FILTER (WHERE status = 'completed') AS "completed!",
                      refused.orders + count(*) FILTER (WHERE status = 'refused') AS "refused!",
                      count(*) FILTER (WHERE status = 'pending') AS "pending!",
                      count(*) FILTER (WHERE status = 'paid') AS "paid!",
                      count(*) FILTER (WHERE status = 'shipped') AS "shipped!",
                      (SELECT count(*) FROM users.users) AS "households!",
                      (SELECT count(*) FROM users.devices) AS "devices!",
                      (SELECT count(*) FROM users.deliveries) AS "deliveries!",
                      (SELECT count(*) FROM users.shelf_items WHERE low_since IS NOT NULL) AS "low!",
                      (SELECT count(*) FROM outbox.messages)
                          + (SELECT count(*) FROM orders.late_orders WHERE unpublished) AS "unpublished!"
               FROM checked CROSS JOIN delivered CROSS JOIN refused LEFT JOIN recent ON true
               GROUP BY checked.orders, delivered.orders, refused.orders"#
        )
        .fetch_one(pool)
        .await?;
        let low_longest = sqlx::query_as!(
            LowShelfItem,
            r#"SELECT ssd_id, products.name, shelf_items.quantity,
                      extract(epoch FROM now() - low_since)::double precision AS "seconds!"
               FROM users.shelf_items JOIN catalog.products USING (barcode)
               WHERE low_since IS NOT NULL ORDER BY low_since LIMIT 20"#
        )
        .fetch_all(pool)
        .await?;
        Ok(Self {
            taken_at: started,
            cost: started.elapsed(),
            pending: counts.pending,
            paid: counts.paid,
            shipped: counts.shipped,
            completed: counts.completed,
            refused: counts.refused,
            cancelled: counts.cancelled,
            households: counts.households,
            devices: counts.devices,
            deliveries: counts.deliveries,
            low: counts.low,
            unpublished: counts.unpublished,
            low_longest,
        })
    }

    pub(crate) fn placed(&self) -> i64 {
        self.pending + self.paid + self.shipped + self.completed + self.refused + self.cancelled
    }
}

/// Finds the names of products, each with its barcode.
pub(super) async fn find_names(db: &PgPool, barcodes: &[String]) -> sqlx::Result<Vec<(String, String)>> {
    let rows = sqlx::query!("SELECT barcode, name FROM catalog.products WHERE barcode = ANY($1)", barcodes);
    Ok(rows.fetch_all(db).await?.into_iter().map(|row| (row.barcode, row.name)).collect())
}
