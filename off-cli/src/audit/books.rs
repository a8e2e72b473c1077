//! What Postgres says.

use super::{Area, Finding};
use off_events::OrderStatus;
use sqlx::PgPool;
use std::collections::BTreeSet;
use uuid::Uuid;

/// A row that has been in the outbox for this long is stuck: a relay looks every second.
const STUCK_AFTER_SECONDS: f64 = 10.0;

/// The most disagreements of one sort that are fetched.
const MOST: i64 = 1000;

/// Counts, what is unfinished, and what does not agree.
#[derive(Debug)]
pub(super) struct Books {
    /// Orders that are pending, shipped, completed.
    pub(super) by_state: [i64; 3],
    pub(super) unfinished: Vec<(Uuid, OrderStatus)>,
    /// Completed orders without a delivery; those are on their way to the shelf, or lost.
    pub(super) undelivered: Vec<Uuid>,
    /// Deliveries of orders that are not completed yet; the news is on its way, or lost.
    pub(super) delivered_early: Vec<Uuid>,
    /// Orders whose first event has not left the outbox.
    pub(super) in_outbox: BTreeSet<Uuid>,
    pub(super) deliveries: i64,
    pub(super) shelves: i64,
    pub(super) outbox: i64,
    pub(super) findings: BTreeSet<Finding>,
}

impl Books {
    /// Reads everything from one snapshot, so that no two numbers are of different moments.
    pub(super) async fn read(db: &PgPool) -> anyhow::Result<Self> {
        let mut tx = db.begin().await?;
        sqlx::query!("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY").execute(&mut *tx).await?;
        let counts = sqlx::query!(
            r#"SELECT count(*) FILTER (WHERE status = 'pending') AS "pending!",
                      count(*) FILTER (WHERE status = 'shipped') AS "shipped!",
                      count(*) FILTER (WHERE status = 'completed') AS "completed!",
                      (SELECT count(*) FROM users.deliveries) AS "deliveries!",
                      (SELECT count(*) FROM users.product_ssds) AS "shelves!",
                      (SELECT count(*) FROM outbox.messages) AS "outbox!"
               FROM orders.product_orders"#
        )
        .fetch_one(&mut *tx)
        .await?;
        let unfinished = sqlx::query!(
            r#"SELECT id, status = 'shipped' AS "is_shipped!" FROM orders.product_orders WHERE status <> 'completed'"#
        )
        .fetch_all(&mut *tx)
        .await?;
        let undelivered = sqlx::query_scalar!(
            "SELECT id FROM orders.product_orders AS placed
             WHERE status = 'completed'
               AND NOT EXISTS (SELECT FROM users.deliveries WHERE deliveries.order_id = placed.id)"
        )
        .fetch_all(&mut *tx)
        .await?;
        let delivered_early = sqlx::query_scalar!(
            "SELECT order_id FROM users.deliveries
             JOIN orders.product_orders AS placed ON placed.id = order_id WHERE placed.status <> 'completed'"
        )
        .fetch_all(&mut *tx)
        .await?;
        let in_outbox = sqlx::query_scalar!(
            r#"SELECT split_part(message_id, ':', 1)::uuid AS "id!" FROM outbox.messages WHERE subject = 'orders.pending'"#
        )
        .fetch_all(&mut *tx)
        .await?;
        let mut books = Self {
            by_state: [counts.pending, counts.shipped, counts.completed],
            unfinished: unfinished
                .into_iter()
                .map(|row| (row.id, if row.is_shipped { OrderStatus::Shipped } else { OrderStatus::Pending }))
                .collect(),
            undelivered,
            delivered_early,
            in_outbox: in_outbox.into_iter().collect(),
            deliveries: counts.deliveries,
            shelves: counts.shelves,
            outbox: counts.outbox,
            findings: BTreeSet::new(),
        };
        books.compare_deliveries(&mut tx).await?;
        books.compare_history(&mut tx).await?;
        books.compare_shelves(&mut tx).await?;
        books.look_for_stuck_messages(&mut tx).await?;
        tx.commit().await?;
        Ok(books)
    }

    fn note(&mut self, area: Area, text: String) {
        self.findings.insert(Finding { area, text });
    }

    async fn compare_deliveries(&mut self, conn: &mut sqlx::PgConnection) -> sqlx::Result<()> {
        let wrong = sqlx::query!(
            r#"SELECT order_id, placed.id IS NULL AS "unknown!"
               FROM users.deliveries AS delivery LEFT JOIN orders.product_orders AS placed ON placed.id = order_id
               WHERE (placed.ssd_id, placed.barcode, placed.quantity)
                     IS DISTINCT FROM (delivery.ssd_id, delivery.barcode, delivery.quantity)
               LIMIT $1"#,
            MOST,
        )
        .fetch_all(conn)
        .await?;
        for row in wrong {
            let what =
                if row.unknown { "was delivered and never placed" } else { "was delivered otherwise than ordered" };
            self.note(Area::Deliveries, format!("order {} {what}", row.order_id));
        }
        Ok(())
    }

    async fn compare_history(&mut self, conn: &mut sqlx::PgConnection) -> sqlx::Result<()> {
        let wrong = sqlx::query_scalar!(
            "SELECT id FROM orders.product_orders
             WHERE shipped_at < placed_at OR completed_at < shipped_at OR completed_at < placed_at
                OR (status = 'pending' AND shipped_at IS NOT NULL)
                OR (status = 'completed') <> (completed_at IS NOT NULL)
             LIMIT $1",
            MOST,
        )
        .fetch_all(conn)
        .await?;
        for id in wrong {
            self.note(Area::History, format!("order {id} reached its states in an impossible order"));
        }
        Ok(())
    }

    async fn compare_shelves(&mut self, conn: &mut sqlx::PgConnection) -> sqlx::Result<()> {
        let wrong = sqlx::query!(
            r#"WITH moved AS (
                   SELECT ssd_id, barcode, sum(units) AS units
                   FROM (SELECT ssd_id, barcode, quantity::bigint AS units FROM users.deliveries
                         UNION ALL
                         SELECT ssd_id, barcode, -taken FROM users.consumptions) AS movement
                   GROUP BY ssd_id, barcode
               )
               SELECT ssd_id AS "ssd_id!", barcode AS "barcode!", coalesce(shelf.quantity, 0)::bigint AS "holds!",
                      coalesce(moved.units, 0)::bigint AS "should_hold!"
               FROM users.product_ssds AS shelf FULL JOIN moved USING (ssd_id, barcode)
               WHERE coalesce(shelf.quantity, 0) <> coalesce(moved.units, 0)
               LIMIT $1"#,
            MOST,
        )
        .fetch_all(conn)
        .await?;
        for row in wrong {
            let (ssd, barcode, holds, should) = (row.ssd_id, row.barcode, row.holds, row.should_hold);
            self.note(Area::Shelves, format!("ssd {ssd} holds {holds} of {barcode} and should hold {should}"));
        }
        Ok(())
    }

    async fn look_for_stuck_messages(&mut self, conn: &mut sqlx::PgConnection) -> sqlx::Result<()> {
        let stuck = sqlx::query!(
            "SELECT source, subject, message_id FROM outbox.messages
             WHERE occurred_at < now() - make_interval(secs => $1) LIMIT $2",
            STUCK_AFTER_SECONDS,
            MOST,
        )
        .fetch_all(conn)
        .await?;
        for row in stuck {
            let text = format!("{} of {} is stuck in the outbox ({})", row.subject, row.source, row.message_id);
            self.note(Area::Outbox, text);
        }
        Ok(())
    }
}
