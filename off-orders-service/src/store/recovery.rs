//! Which orders are overdue.

use super::{CLOCK_TOLERANCE, order};
use chrono::{DateTime, Utc};
use off_events::{Order, OrderStatus};
use sqlx::PgPool;
use std::time::Duration;
use uuid::Uuid;

/// Until when every order that was placed is visible now, by the database's clock. A transaction that is still running may
/// yet store orders from when it began.
pub(crate) async fn find_horizon(db: &PgPool) -> sqlx::Result<DateTime<Utc>> {
    let horizon = sqlx::query_scalar!(
        r#"SELECT least(now(), min(xact_start)) AS "horizon!" FROM pg_stat_activity
           WHERE datname = current_database() AND usename = current_user
             AND application_name = current_setting('application_name')"#
    );
    Ok(horizon.fetch_one(db).await? - CLOCK_TOLERANCE)
}

/// The least id of an order that was placed at `time` or later: ids are UUIDs of version 7, which begin with the time.
fn first_id_at(time: DateTime<Utc>) -> Uuid {
    let millis = u128::try_from(time.timestamp_millis()).unwrap_or_default();
    Uuid::from_u128(millis << 80)
}

/// Moves the checkpoint of `status` over at most `limit` orders placed before `horizon`, and notes those that are still in
/// this state or an earlier one as late. Says how many orders it passed; none where another replica is at it.
pub(crate) async fn move_checkpoint(
    db: &PgPool,
    status: OrderStatus,
    horizon: DateTime<Utc>,
    limit: i64,
) -> sqlx::Result<i64> {
    let horizon = first_id_at(horizon);
    let mut tx = db.begin().await?;
    let through = sqlx::query_scalar!(
        "SELECT through FROM orders.checkpoints WHERE status = ($1::text)::orders.order_status FOR UPDATE SKIP LOCKED",
        status.as_str(),
    );
    let Some(through) = through.fetch_optional(&mut *tx).await? else { return Ok(0) };
    let passed = if horizon < through {
        // The clock was set back, or waits have become longer: orders that are placed from now on are to be checked, too.
        sqlx::query!(
            "UPDATE orders.checkpoints
             SET through = $2, orders = orders - (SELECT count(*) FROM orders.product_orders WHERE id > $2 AND id <= $3)
             WHERE status = ($1::text)::orders.order_status",
            status.as_str(),
            horizon,
            through,
        )
        .execute(&mut *tx)
        .await?;
        0
    } else {
        let passed = sqlx::query_scalar!(
            r#"WITH page AS MATERIALIZED (
                   SELECT id, status, due_at FROM orders.product_orders WHERE id > $2 AND id <= $3 ORDER BY id LIMIT $4
               ), late AS (
                   INSERT INTO orders.late_orders (order_id, check_at)
                   SELECT id, due_at FROM page
                   WHERE status <= ($1::text)::orders.order_status
                     AND (status <> 'completed'
                          OR NOT EXISTS (SELECT FROM users.deliveries WHERE order_id = page.id OFFSET 0))
                   ON CONFLICT (order_id) DO NOTHING
               ), passed AS (
                   SELECT count(*) AS orders, (SELECT id FROM page ORDER BY id DESC LIMIT 1) AS through FROM page
               )
               UPDATE orders.checkpoints
               SET through = CASE WHEN passed.orders < $4 THEN $3 ELSE passed.through END,
                   orders = checkpoints.orders + passed.orders
               FROM passed WHERE status = ($1::text)::orders.order_status AND passed.orders > 0
               RETURNING passed.orders AS "orders!""#,
            status.as_str(),
            through,
            horizon,
            limit,
        );
        passed.fetch_optional(&mut *tx).await?.unwrap_or(0)
    };
    tx.commit().await?;
    Ok(passed)
}

/// Notes as late what a clock that was ahead placed in the future: no checkpoint comes there for a long time.
pub(crate) async fn note_placed_in_future(db: &PgPool, horizon: DateTime<Utc>, limit: i64) -> sqlx::Result<u64> {
    let noted = sqlx::query!(
        "INSERT INTO orders.late_orders (order_id, check_at)
         SELECT id, now() FROM orders.product_orders
         WHERE id > $1
           AND NOT EXISTS (SELECT FROM orders.late_orders WHERE order_id = id OFFSET 0)
           AND (status <> 'completed' OR NOT EXISTS (SELECT FROM users.deliveries WHERE order_id = id OFFSET 0))
         ORDER BY id LIMIT $2
         ON CONFLICT (order_id) DO NOTHING",
        first_id_at(horizon + 2 * CLOCK_TOLERANCE),
        limit,
    );
    Ok(noted.execute(db).await?.rows_affected())
}

/// An order whose next step has not happened by its deadline.
#[derive(Debug)]
pub(crate) struct Overdue {
    pub(crate) order: Order,
    /// When it reached its state.
    pub(crate) since: DateTime<Utc>,
}

/// Takes at most `limit` late orders that are to be looked at now. Those that are delivered, or gone, are late no more;
/// those that have moved on meanwhile get until their new deadline; the rest is overdue, and is looked at again after a
/// pause: `pause`, doubled with each announcement up to `longest_pause`, and up to a quarter longer by chance. Replicas
/// pass over each other's. Says also how many were taken.
pub(crate) async fn take_overdue(
    db: &PgPool,
    pause: Duration,
    longest_pause: Duration,
    limit: i64,
) -> sqlx::Result<(usize, Vec<Overdue>)> {
    let rows = sqlx::query!(
        r#"WITH due AS MATERIALIZED (
               SELECT order_id, announcements FROM orders.late_orders
               WHERE check_at <= now() ORDER BY check_at LIMIT $1 FOR UPDATE SKIP LOCKED
           ), looked_at AS MATERIALIZED (
               SELECT due.order_id, placed.*,
                      placed.id IS NULL
                      OR placed.status = 'completed'
                         AND EXISTS (SELECT FROM users.deliveries WHERE deliveries.order_id = due.order_id OFFSET 0)
                      AS is_done,
                      placed.due_at > now() AND placed.placed_at <= now() AS has_time,
                      least($3, $2 * power(2, least(due.announcements, 20))) * (1 + random() / 4) AS pause
               FROM due LEFT JOIN LATERAL
                    (SELECT id, ssd_id, barcode, quantity, status, placed_at, shipped_at, completed_at, due_at
                     FROM orders.product_orders WHERE id = due.order_id OFFSET 0) AS placed ON true
           ), done AS (
               DELETE FROM orders.late_orders USING looked_at
               WHERE late_orders.order_id = looked_at.order_id AND is_done
           ), later AS (
               UPDATE orders.late_orders
               SET check_at = CASE WHEN has_time THEN looked_at.due_at ELSE now() + make_interval(secs => looked_at.pause) END,
                   announcements = CASE WHEN has_time THEN 0 ELSE announcements + 1 END
               FROM looked_at WHERE late_orders.order_id = looked_at.order_id AND NOT is_done
           )
           SELECT is_done OR has_time AS "is_well!", id AS "id?", ssd_id AS "ssd_id?", barcode AS "barcode?",
                  quantity AS "quantity?", status::text, placed_at AS "placed_at?",
                  coalesce(completed_at, shipped_at, placed_at) AS since
           FROM looked_at"#,
        limit,
        pause.as_secs_f64(),
        longest_pause.as_secs_f64(),
    )
    .fetch_all(db)
    .await?;
    let taken = rows.len();
    let mut overdue = Vec::new();
    for row in rows.into_iter().filter(|row| !row.is_well) {
        let columns = (row.id, row.ssd_id, row.barcode, row.quantity, row.placed_at, row.status, row.since);
        if let (Some(id), Some(ssd), Some(barcode), Some(quantity), Some(placed_at), Some(status), Some(since)) =
            columns
        {
            overdue.push(Overdue { order: order(id, ssd, &barcode, quantity, placed_at, &status)?, since });
        }
    }
    Ok((taken, overdue))
}

/// Has late orders looked at again after `pause`: those whose announcement the broker did not take.
pub(crate) async fn postpone(db: &PgPool, ids: &[Uuid], pause: Duration) -> sqlx::Result<()> {
    sqlx::query!(
        "UPDATE orders.late_orders SET check_at = now() + make_interval(secs => $2) WHERE order_id = ANY($1)",
        ids,
        pause.as_secs_f64(),
    )
    .execute(db)
    .await?;
    Ok(())
}

/// How many late orders were announced again and have not moved on since.
pub(crate) async fn count_overdue(db: &PgPool) -> sqlx::Result<i64> {
    sqlx::query_scalar!(r#"SELECT count(*) AS "count!" FROM orders.late_orders WHERE announcements > 0"#)
        .fetch_one(db)
        .await
}

/// When the oldest order of each state under way was placed; `None` where there is none. Only late ones are before the
/// checkpoint of their state.
pub(crate) async fn find_oldest(db: &PgPool) -> sqlx::Result<[(OrderStatus, Option<DateTime<Utc>>); 2]> {
    let rows = sqlx::query!(
        r#"SELECT checkpoint.status::text AS "status!", late.placed_at AS "late?", newer.placed_at AS "newer?"
           FROM orders.checkpoints AS checkpoint
           LEFT JOIN LATERAL (
               SELECT placed_at FROM orders.late_orders
               JOIN orders.product_orders ON id = order_id AND product_orders.status = checkpoint.status
               ORDER BY order_id LIMIT 1) AS late ON true
           LEFT JOIN LATERAL (
               SELECT placed_at FROM orders.product_orders
               WHERE id > checkpoint.through AND product_orders.status = checkpoint.status
               ORDER BY id LIMIT 1) AS newer ON true
           WHERE checkpoint.status <> 'completed'"#
    )
    .fetch_all(db)
    .await?;
    Ok([OrderStatus::Pending, OrderStatus::Shipped].map(|status| {
        let row = rows.iter().find(|row| row.status == status.as_str());
        (status, row.and_then(|row| [row.late, row.newer].into_iter().flatten().min()))
    }))
}
