//! SQL of the checkpoints, which move over the orders and record the late ones.

use super::{CLOCK_TOLERANCE, first_id_at};
use chrono::{DateTime, Utc};
use off_events::OrderStatus;
use sqlx::{PgConnection, PgPool};
use std::time::Duration;
use uuid::Uuid;

/// Maximum number of orders that a checkpoint moves back over in one transaction.
const BACK_BY: i64 = 100_000;

/// Times by the clock of the database.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Horizon {
    pub(crate) now: DateTime<Utc>,
    /// Every order that was placed before this time is visible. A running transaction may still commit orders from the
    /// time at which it began.
    pub(crate) complete_before: DateTime<Utc>,
}

/// Returns the current time, and the time before which no transaction of this service can still commit orders.
pub(crate) async fn find_horizon(db: &PgPool) -> sqlx::Result<Horizon> {
    let horizon = sqlx::query!(
        r#"SELECT now() AS "now!", least(now(), min(xact_start)) AS "visible!" FROM pg_stat_activity
           WHERE datname = current_database() AND usename = current_user
             AND application_name = current_setting('application_name')"#
    );
    let horizon = horizon.fetch_one(db).await?;
    Ok(Horizon { now: horizon.now, complete_before: horizon.visible - CLOCK_TOLERANCE })
}

/// The lowest id whose time is `step` after the time of `id`.
fn id_after(id: Uuid, step: Duration) -> Uuid {
    let millis = (id.as_u128() >> 80) + step.as_millis();
    Uuid::from_u128(millis << 80)
}

/// Moves the checkpoint of `status` over one `step` of orders that were placed before `placed_before`. Records the
/// orders as late that have not left this status; at the last checkpoint all that are not done. Returns
/// whether the checkpoint moved: it does not move if there is nothing to check, or while another replica holds its
/// lock.
pub(crate) async fn move_checkpoint(
    db: &PgPool,
    status: OrderStatus,
    placed_before: DateTime<Utc>,
    step: Duration,
) -> sqlx::Result<bool> {
    let limit = first_id_at(placed_before);
    let mut tx = db.begin().await?;
    let checkpoint = sqlx::query!(
        r#"SELECT through,
                  (SELECT id FROM orders.product_orders WHERE id > checkpoint.through ORDER BY id LIMIT 1) AS "next?"
           FROM orders.checkpoints AS checkpoint WHERE status = ($1::text)::orders.order_status
           FOR UPDATE SKIP LOCKED"#,
        status.as_str(),
    );
    let Some(checkpoint) = checkpoint.fetch_optional(&mut *tx).await? else { return Ok(false) };
    if limit < checkpoint.through {
        move_back(&mut tx, status, limit, checkpoint.through).await?;
    } else {
        let Some(next) = checkpoint.next.filter(|next| *next <= limit) else { return Ok(false) };
        let range = (checkpoint.through, id_after(next, step).min(limit));
        if move_forward(&mut tx, status, range).await? {
            record_late(&mut tx, status, range).await?;
        }
    }
    tx.commit().await?;
    Ok(true)
}

/// Moves a checkpoint from `through` back to `limit`, over at most [`BACK_BY`] orders: the clock was set back, or the
/// time limits were raised, and new orders must be checked, too.
async fn move_back(conn: &mut PgConnection, status: OrderStatus, limit: Uuid, through: Uuid) -> sqlx::Result<()> {
    sqlx::query!(
        "WITH back AS MATERIALIZED (
             SELECT greatest($2, (SELECT id FROM orders.product_orders WHERE id <= $3 ORDER BY id DESC OFFSET $4 LIMIT 1))
                    AS through
         )
         UPDATE orders.checkpoints
         SET through = back.through,
             orders = orders - (SELECT count(*) FROM orders.product_orders WHERE id > back.through AND id <= $3)
         FROM back WHERE status = ($1::text)::orders.order_status",
        status.as_str(),
        limit,
        through,
        BACK_BY,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Moves a checkpoint from the first id of `range` to the second. Returns whether it passed orders that are late.
async fn move_forward(conn: &mut PgConnection, status: OrderStatus, (from, to): (Uuid, Uuid)) -> sqlx::Result<bool> {
    let has_late = sqlx::query_scalar!(
        // Two sets of ids are equal if their counts and the XOR of their hashes are: this costs a third of checking the
        // delivery of each order.
        r#"WITH placed AS MATERIALIZED (
               SELECT count(*) AS orders, count(*) FILTER (WHERE status <= ($1::text)::orders.order_status) AS unfinished,
                      count(*) FILTER (WHERE status = 'completed') AS completed,
                      bit_xor(uuid_hash_extended(id, 0)) FILTER (WHERE status = 'completed') AS completed_ids,
                      count(*) FILTER (WHERE status >= 'completed') AS ended,
                      bit_xor(uuid_hash_extended(id, 0)) FILTER (WHERE status >= 'completed') AS ended_ids
               FROM orders.product_orders WHERE id > $2 AND id <= $3
           ), delivered AS MATERIALIZED (
               SELECT count(*) AS orders, bit_xor(uuid_hash_extended(order_id, 0)) AS ids
               FROM users.deliveries WHERE $1 = 'shipped' AND order_id > $2 AND order_id <= $3
           ), settled AS MATERIALIZED (
               SELECT count(*) AS orders, bit_xor(uuid_hash_extended(order_id, 0)) AS ids
               FROM billing.settled_orders WHERE $1 = 'shipped' AND order_id > $2 AND order_id <= $3
           ), closed AS MATERIALIZED (
               SELECT count(*) AS orders, bit_xor(uuid_hash_extended(order_id, 0)) AS ids
               FROM letters.closed_orders WHERE $1 = 'shipped' AND order_id > $2 AND order_id <= $3
           )
           UPDATE orders.checkpoints SET through = $3, orders = checkpoints.orders + placed.orders
           FROM placed, delivered, settled, closed WHERE status = ($1::text)::orders.order_status
           RETURNING placed.unfinished > 0
                     OR $1 = 'shipped' AND ((completed, completed_ids) IS DISTINCT FROM (delivered.orders, delivered.ids)
                                            OR (ended, ended_ids) IS DISTINCT FROM (settled.orders, settled.ids)
                                            OR (ended, ended_ids) IS DISTINCT FROM (closed.orders, closed.ids))
                     AS "has_late!""#,
        status.as_str(),
        from,
        to,
    );
    has_late.fetch_one(conn).await
}

/// Records the orders of `range` as late that have not left `status`; at the last checkpoint all that are not done.
async fn record_late(conn: &mut PgConnection, status: OrderStatus, (from, to): (Uuid, Uuid)) -> sqlx::Result<()> {
    sqlx::query!(
        "INSERT INTO orders.late_orders (order_id, check_at)
         SELECT id, deadline FROM orders.unfinished_orders
         WHERE id > $2 AND id <= $3 AND ($1 = 'shipped' OR status <= ($1::text)::orders.order_status)
         -- A clock that was ahead may have set its next check long after its deadline.
         ON CONFLICT (order_id) DO UPDATE SET check_at = least(late_orders.check_at, excluded.check_at)",
        status.as_str(),
        from,
        to,
    )
    .execute(conn)
    .await?;
    Ok(())
}
