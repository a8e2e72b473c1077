//! Counts of what should have moved on.

use sqlx::PgPool;
use std::time::Duration;

/// Messages of committed facts that the broker has not acknowledged yet.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unpublished {
    pub(super) count: i64,
    /// Seconds since the oldest of these facts.
    pub(super) seconds: f64,
}

/// Counts the messages of committed facts that the broker has not acknowledged yet.
pub(super) async fn count_unpublished(db: &PgPool) -> sqlx::Result<Unpublished> {
    let unpublished = sqlx::query_as!(
        Unpublished,
        r#"SELECT count(*) AS "count!", coalesce(extract(epoch FROM now() - min(occurred_at)), 0)::float8 AS "seconds!"
           FROM (SELECT occurred_at FROM outbox.messages
                 UNION ALL
                 SELECT placed_at FROM orders.late_orders JOIN orders.product_orders ON id = order_id WHERE unpublished)
                AS waiting"#
    );
    unpublished.fetch_one(db).await
}

/// Orders whose next step has not happened by its deadline.
#[derive(Debug, Clone, Copy)]
pub struct Overdue {
    /// Their number.
    pub count: i64,
    /// Seconds since the earliest of their deadlines.
    pub(super) seconds: f64,
}

/// Counts orders that are overdue by more than `longer_than`. Up to the last checkpoint, only
/// late orders can be overdue.
pub async fn count_overdue(db: &PgPool, longer_than: Duration) -> sqlx::Result<Overdue> {
    let overdue = sqlx::query_as!(
        Overdue,
        r#"WITH checked AS MATERIALIZED (SELECT through FROM orders.checkpoints WHERE status = 'shipped'),
                unfinished AS (
                    SELECT deadline FROM orders.unfinished_orders WHERE id > (SELECT through FROM checked)
                    UNION ALL
                    SELECT deadline FROM orders.late_orders JOIN orders.unfinished_orders ON id = order_id
                    WHERE order_id <= (SELECT through FROM checked)
                )
           SELECT count(*) AS "count!", coalesce(extract(epoch FROM now() - min(deadline)), 0)::float8 AS "seconds!"
           FROM unfinished WHERE deadline < now() - make_interval(secs => $1)"#,
        longer_than.as_secs_f64(),
    );
    overdue.fetch_one(db).await
}
