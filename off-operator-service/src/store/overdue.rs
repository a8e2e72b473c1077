//! The query for orders whose next step is late.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::PgPool;
use utoipa::ToSchema;
use uuid::Uuid;

/// An order whose next step has not happened by its deadline.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OverdueOrder {
    id: Uuid,
    #[schema(example = "paid")]
    status: String,
    /// When its next step was due.
    deadline: DateTime<Utc>,
    /// How often it was announced again since it reached its status.
    announcements: i32,
}

/// The `limit` orders that have been overdue for longest. Up to the last checkpoint, only late orders can be overdue.
pub(crate) async fn list_overdue(db: &PgPool, limit: i64) -> sqlx::Result<Vec<OverdueOrder>> {
    sqlx::query_as!(
        OverdueOrder,
        r#"WITH checked AS MATERIALIZED (SELECT through FROM orders.checkpoints WHERE status = 'shipped'),
                unfinished AS (
                    SELECT id, status, deadline FROM orders.unfinished_orders WHERE id > (SELECT through FROM checked)
                    UNION ALL
                    SELECT id, status, deadline
                    FROM orders.late_orders JOIN orders.unfinished_orders ON id = order_id
                    WHERE order_id <= (SELECT through FROM checked)
                )
           SELECT id AS "id!", status::text AS "status!", deadline AS "deadline!",
                  coalesce(announcements, 0) AS "announcements!"
           FROM unfinished LEFT JOIN orders.late_orders ON order_id = id
           WHERE deadline < now() ORDER BY deadline, id LIMIT $1"#,
        limit,
    )
    .fetch_all(db)
    .await
}
