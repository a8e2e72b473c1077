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
    pub(crate) shipped: i64,
    pub(crate) completed: i64,
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
        // Orders up to the last checkpoint were counted when it passed them; of these, only late orders are under way.
        let counts = sqlx::query!(
            r#"WITH checked AS MATERIALIZED (SELECT through, orders FROM orders.checkpoints WHERE status = 'shipped'),
                    newer AS MATERIALIZED (
                        SELECT status FROM orders.product_orders WHERE id > (SELECT through FROM checked)
                    ),
                    late AS MATERIALIZED (
                        SELECT status FROM orders.late_orders JOIN orders.product_orders ON id = order_id
                        WHERE order_id <= (SELECT through FROM checked)
                    ),
                    under_way AS (SELECT status FROM newer UNION ALL SELECT status FROM late)
               SELECT (SELECT orders FROM checked) + (SELECT count(*) FROM newer) AS "placed!",
                      (SELECT count(*) FROM under_way WHERE status = 'pending') AS "pending!",
                      (SELECT count(*) FROM under_way WHERE status = 'shipped') AS "shipped!",
                      (SELECT count(*) FROM users.users) AS "households!",
                      (SELECT count(*) FROM users.devices) AS "devices!",
                      (SELECT count(*) FROM users.deliveries) AS "deliveries!",
                      (SELECT count(*) FROM users.shelf_items WHERE low_since IS NOT NULL) AS "low!",
                      (SELECT count(*) FROM outbox.messages)
                          + (SELECT count(*) FROM orders.late_orders WHERE unpublished) AS "unpublished!""#
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
            shipped: counts.shipped,
            completed: counts.placed - counts.pending - counts.shipped,
            households: counts.households,
            devices: counts.devices,
            deliveries: counts.deliveries,
            low: counts.low,
            unpublished: counts.unpublished,
            low_longest,
        })
    }

    pub(crate) fn placed(&self) -> i64 {
        self.pending + self.shipped + self.completed
    }
}

/// Finds the names of products, each with its barcode.
pub(super) async fn find_names(db: &PgPool, barcodes: &[String]) -> sqlx::Result<Vec<(String, String)>> {
    let rows = sqlx::query!("SELECT barcode, name FROM catalog.products WHERE barcode = ANY($1)", barcodes);
    Ok(rows.fetch_all(db).await?.into_iter().map(|row| (row.barcode, row.name)).collect())
}
