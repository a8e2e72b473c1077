//! The statuses of orders. The row of an order decides which statuses it reaches; each change is one statement for a whole
//! batch.

use super::OrderRow;
use crate::deadlines::TimeLimits;
use chrono::{DateTime, Utc};
use off_events::{Order, OrderId, OrderStatus};
use off_kit::auth::RowAccess;
use sqlx::PgPool;
use std::collections::HashSet;
use uuid::Uuid;

/// What an event says about an order.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reached {
    pub(crate) id: OrderId,
    pub(crate) at: DateTime<Utc>,
    /// How much money was missing in cents, if it was refused.
    pub(crate) missing: Option<i64>,
}

/// Records that orders have reached `status`, and sets the deadline for the next one: the time limit counts from when
/// the order was placed, or from now if the order is late. A status never moves backwards, and only a pending order is
/// refused: an order that is already further keeps its status, and only its history is completed. Returns the orders that
/// exist, with the status that each has now.
pub(crate) async fn mark_reached(
    db: &PgPool,
    status: OrderStatus,
    reached: &[Reached],
    limits: TimeLimits,
) -> sqlx::Result<Vec<(OrderId, OrderStatus)>> {
    let ids: Vec<Uuid> = reached.iter().map(|reached| reached.id.0).collect();
    let times: Vec<DateTime<Utc>> = reached.iter().map(|reached| reached.at).collect();
    let missing: Vec<Option<i64>> = reached.iter().map(|reached| reached.missing).collect();
    let rows = sqlx::query!(
        // Events for several statuses of the same orders are handled concurrently: locking in the same order avoids
        // deadlocks.
        r#"WITH locked AS MATERIALIZED (
             SELECT id, at, reached.missing,
                    known.status < ($1::text)::orders.order_status
                    AND ($1 <> 'refused' OR known.status = 'pending') AS moves
             FROM unnest($2::uuid[], $3::timestamptz[], $6::bigint[]) AS reached (id, at, missing)
             JOIN orders.product_orders AS known USING (id) ORDER BY id FOR NO KEY UPDATE OF known
         ), moved AS (
             UPDATE orders.product_orders AS orders
             SET status = CASE WHEN moves THEN ($1::text)::orders.order_status ELSE orders.status END,
                 paid_at = CASE WHEN $1 = 'paid' THEN coalesce(orders.paid_at, greatest(locked.at, orders.placed_at))
                                ELSE orders.paid_at END,
                 shipped_at = CASE WHEN $1 = 'shipped' AND orders.status < 'refused'
                                   THEN coalesce(orders.shipped_at, greatest(locked.at, orders.placed_at, orders.paid_at))
                                   ELSE orders.shipped_at END,
                 completed_at = CASE WHEN $1 = 'completed' AND orders.status < 'refused'
                                     THEN coalesce(orders.completed_at,
                                                   greatest(locked.at, orders.placed_at, orders.paid_at, orders.shipped_at))
                                     ELSE orders.completed_at END,
                 ended_at = CASE WHEN $1 = 'refused' AND moves THEN greatest(locked.at, orders.placed_at)
                                 ELSE orders.ended_at END,
                 missing = CASE WHEN moves THEN locked.missing ELSE orders.missing END,
                 deadline = CASE WHEN moves
                               THEN greatest(orders.placed_at + make_interval(secs => $4), now() + make_interval(secs => $5))
                               ELSE orders.deadline END
             FROM locked WHERE orders.id = locked.id
             RETURNING orders.id, orders.status, orders.deadline
         ), late AS (
             -- Ends recovery's backoff for orders that moved on: only those have a deadline in the future.
             UPDATE orders.late_orders SET check_at = moved.deadline, announcements = 0, unpublished = false
             FROM moved WHERE order_id = moved.id AND moved.deadline > now()
         )
         SELECT id, status::text AS "status!" FROM moved"#,
        status.as_str(),
        &ids,
        &times,
        limits.since_placed(status).as_secs_f64(),
        limits.of(status).as_secs_f64(),
        &missing as &[Option<i64>],
    )
    .fetch_all(db)
    .await?;
    let known = rows.into_iter().map(|row| Ok((OrderId(row.id), row.status.parse().map_err(super::unreadable)?)));
    known.collect()
}

/// Ships orders that are ready to leave the supplier, unless they ended. Returns those that are shipped now, by this call
/// or before.
pub(crate) async fn ship_orders(db: &PgPool, ready: &[Reached], limits: TimeLimits) -> sqlx::Result<HashSet<OrderId>> {
    let known = mark_reached(db, OrderStatus::Shipped, ready, limits).await?;
    let is_shipped = |status| matches!(status, OrderStatus::Shipped | OrderStatus::Completed);
    Ok(known.into_iter().filter(|&(_, status)| is_shipped(status)).map(|(id, _)| id).collect())
}

/// Cancels an order of a device within `access`, unless it was shipped or refused. Returns it as it is then, and when it
/// was cancelled, if this call did it. `None` if there is no such order.
pub(crate) async fn cancel_order(
    db: &PgPool,
    id: OrderId,
    access: RowAccess,
    limits: TimeLimits,
) -> sqlx::Result<Option<(Order, Option<DateTime<Utc>>)>> {
    let (user, device, simulated) = access.columns();
    let row = sqlx::query!(
        r#"WITH locked AS MATERIALIZED (
               SELECT placed.id, placed.status IN ('pending', 'paid') AS may_end
               FROM orders.product_orders AS placed JOIN users.devices ON devices.id = placed.ssd_id
               WHERE placed.id = $1 AND ($2::bigint IS NULL OR devices.user_id = $2)
                 AND ($3::bigint IS NULL OR devices.id = $3) AND ($4::bool IS NULL OR devices.is_simulated = $4)
               FOR NO KEY UPDATE OF placed
           ), ended AS (
               UPDATE orders.product_orders AS placed
               SET status = CASE WHEN may_end THEN 'cancelled' ELSE placed.status END,
                   ended_at = CASE WHEN may_end THEN greatest(now(), placed.placed_at, placed.paid_at)
                                   ELSE placed.ended_at END,
                   deadline = CASE WHEN may_end THEN now() + make_interval(secs => $5) ELSE placed.deadline END
               FROM locked WHERE placed.id = locked.id
               RETURNING placed.id, ssd_id, user_id, barcode, quantity, unit_price, status, placed_at, missing, ended_at,
                         deadline, may_end
           ), checked AS (
               -- A checkpoint may have passed the order already.
               INSERT INTO orders.late_orders (order_id, check_at) SELECT id, deadline FROM ended WHERE may_end
               ON CONFLICT (order_id) DO UPDATE SET check_at = excluded.check_at, announcements = 0, unpublished = false
           )
           SELECT id, ssd_id, user_id, barcode, quantity, unit_price, status::text AS "status!", placed_at, missing,
                  ended_at, may_end AS "was_cancelled!"
           FROM ended"#,
        id.0,
        user,
        device,
        simulated,
        limits.of(OrderStatus::Cancelled).as_secs_f64(),
    )
    .fetch_optional(db)
    .await?;
    row.map(|row| {
        let order = OrderRow {
            id: row.id,
            ssd_id: row.ssd_id,
            user_id: row.user_id,
            barcode: row.barcode,
            quantity: row.quantity,
            unit_price: row.unit_price,
            status: row.status,
            placed_at: row.placed_at,
            missing: row.missing,
        };
        Ok((order.into_order()?, row.ended_at.filter(|_| row.was_cancelled)))
    })
    .transpose()
}
