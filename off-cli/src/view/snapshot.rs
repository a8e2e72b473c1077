//! The numbers, as Postgres has them.

use sqlx::PgPool;
use std::time::Duration;
use tokio::time::Instant;

/// The numbers at one moment.
#[derive(Debug, Clone)]
pub(crate) struct Snapshot {
    pub(crate) taken: Instant,
    /// How long it took to count.
    pub(crate) cost: Duration,
    pub(crate) pending: i64,
    pub(crate) shipped: i64,
    pub(crate) completed: i64,
    pub(crate) households: i64,
    pub(crate) devices: i64,
    pub(crate) deliveries: i64,
    pub(crate) low: i64,
    pub(crate) unpublished: i64,
    /// Shelves that have been low the longest.
    pub(crate) lowest: Vec<LowShelf>,
}

/// A shelf that runs low.
#[derive(Debug, Clone)]
pub(crate) struct LowShelf {
    pub(crate) ssd_id: i64,
    pub(crate) name: String,
    pub(crate) quantity: i32,
    pub(crate) seconds: f64,
}

impl Snapshot {
    pub(crate) async fn read(pool: &PgPool) -> sqlx::Result<Self> {
        let started = Instant::now();
        // Orders before the last checkpoint were counted when it passed them; only late ones of them are under way.
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
                      (SELECT count(*) FROM users.ssds) AS "devices!",
                      (SELECT count(*) FROM users.deliveries) AS "deliveries!",
                      (SELECT count(*) FROM users.product_ssds WHERE low_since IS NOT NULL) AS "low!",
                      (SELECT count(*) FROM outbox.messages)
                          + (SELECT count(*) FROM orders.late_orders WHERE unpublished) AS "unpublished!""#
        )
        .fetch_one(pool)
        .await?;
        let lowest = sqlx::query_as!(
            LowShelf,
            r#"SELECT ssd_id, products.name, product_ssds.quantity,
                      extract(epoch FROM now() - low_since)::double precision AS "seconds!"
               FROM users.product_ssds JOIN catalog.products USING (barcode)
               WHERE low_since IS NOT NULL ORDER BY low_since LIMIT 20"#
        )
        .fetch_all(pool)
        .await?;
        Ok(Self {
            taken: started,
            cost: started.elapsed(),
            pending: counts.pending,
            shipped: counts.shipped,
            completed: counts.placed - counts.pending - counts.shipped,
            households: counts.households,
            devices: counts.devices,
            deliveries: counts.deliveries,
            low: counts.low,
            unpublished: counts.unpublished,
            lowest,
        })
    }

    pub(crate) fn placed(&self) -> i64 {
        self.pending + self.shipped + self.completed
    }
}
