//! SQL of late orders and their next checks.

use super::{CLOCK_TOLERANCE, OrderRow, first_id_at};
use chrono::{DateTime, Utc};
use off_events::{Order, OrderStatus};
use sqlx::{PgConnection, PgPool};
use std::time::Duration;
use uuid::Uuid;

/// Records orders as late whose time is in the future because a clock was ahead: no checkpoint would reach them for a
/// long time. Returns how many were recorded, at most `limit`.
pub(crate) async fn record_placed_in_future(db: &PgPool, now: DateTime<Utc>, limit: i64) -> sqlx::Result<u64> {
    let recorded = sqlx::query!(
        "INSERT INTO orders.late_orders (order_id, check_at)
         SELECT id, now() FROM orders.unfinished_orders
         WHERE id > $1
           AND NOT EXISTS (SELECT FROM orders.late_orders WHERE order_id = id OFFSET 0)
         ORDER BY id LIMIT $2
         ON CONFLICT (order_id) DO NOTHING",
        first_id_at(now + 2 * CLOCK_TOLERANCE),
        limit,
    );
    Ok(recorded.execute(db).await?.rows_affected())
}

/// Makes the next check of late orders due now if it is more than `longest_wait` away: a clock was ahead. Returns how
/// many were reset, at most `limit`.
pub(crate) async fn reset_distant_checks(db: &PgPool, longest_wait: Duration, limit: i64) -> sqlx::Result<u64> {
    let reset = sqlx::query!(
        "UPDATE orders.late_orders SET check_at = now()
         WHERE ctid = ANY (ARRAY(
             SELECT ctid FROM orders.late_orders
             WHERE check_at > now() + make_interval(secs => $1) ORDER BY check_at DESC LIMIT $2 FOR UPDATE SKIP LOCKED))",
        longest_wait.as_secs_f64(),
        limit,
    );
    Ok(reset.execute(db).await?.rows_affected())
}

/// Records the pending orders among `ids` as unpublished: recovery publishes them at once, before their deadline.
pub(crate) async fn record_unpublished(db: &PgPool, ids: &[Uuid]) -> sqlx::Result<()> {
    sqlx::query!(
        "INSERT INTO orders.late_orders (order_id, check_at, unpublished)
         SELECT id, now(), true FROM orders.product_orders WHERE id = ANY($1) AND status = 'pending'
         ON CONFLICT (order_id) DO UPDATE SET unpublished = true, check_at = least(late_orders.check_at, excluded.check_at)",
        ids,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Returns the id before all orders that were placed in `length` before the newest; `None` without any order.
pub(crate) async fn find_recent_start(db: &PgPool, length: Duration) -> sqlx::Result<Option<Uuid>> {
    let last = sqlx::query_scalar!(
        r#"SELECT least(placed_at, now()) AS "at!" FROM orders.product_orders ORDER BY id DESC LIMIT 1"#
    );
    Ok(last.fetch_optional(db).await?.map(|last| first_id_at(last - length)))
}

/// Records the next pending orders after the id `after` as unpublished, at most `limit`. Returns the id after which the
/// next page begins; `None` after the last page.
pub(crate) async fn record_page_unpublished(db: &PgPool, after: Uuid, limit: i64) -> sqlx::Result<Option<Uuid>> {
    sqlx::query_scalar!(
        r#"WITH page AS MATERIALIZED (
               SELECT id FROM orders.product_orders WHERE id > $1 AND status = 'pending' ORDER BY id LIMIT $2
           ), noted AS (
               INSERT INTO orders.late_orders (order_id, check_at, unpublished) SELECT id, now(), true FROM page
               ON CONFLICT (order_id)
               DO UPDATE SET unpublished = true, check_at = least(late_orders.check_at, excluded.check_at)
           )
           SELECT id AS "id!" FROM page ORDER BY id OFFSET $2 - 1"#,
        after,
        limit,
    )
    .fetch_optional(db)
    .await
}

/// Records that the broker has acknowledged unpublished orders. They are checked again at their deadline; if that is
/// past, after the pause that [`claim_announcements`] set.
pub(crate) async fn record_published(db: &PgPool, ids: &[Uuid]) -> sqlx::Result<()> {
    sqlx::query!(
        "UPDATE orders.late_orders
         SET unpublished = false, announcements = 0,
             check_at = (SELECT CASE WHEN deadline > now() THEN deadline ELSE check_at END
                         FROM orders.product_orders WHERE id = order_id)
         WHERE order_id = ANY($1)",
        ids,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// An order that is to be announced: it is past its deadline, or it is unpublished.
#[derive(Debug)]
pub(crate) struct Announcement {
    pub(crate) order: Order,
    /// When it reached its current status.
    pub(crate) since: DateTime<Utc>,
    /// Whether the broker has not acknowledged its `orders.pending` event yet.
    pub(crate) is_unpublished: bool,
}

/// Claims at most `limit` late orders whose next check is due. Returns how many it claimed, and those that are to be
/// announced.
///
/// - Orders that are done or deleted are no longer late.
/// - Orders whose deadline is still ahead are checked again at it, if that is within `longest_wait`.
/// - All others are overdue or unpublished, and are returned. They are checked again after a pause: `pause`, doubled
///   with each announcement up to `longest_pause`, plus a jitter of up to a quarter.
///
/// Replicas skip orders that another replica has locked.
pub(crate) async fn claim_announcements(
    db: &PgPool,
    pause: Duration,
    longest_pause: Duration,
    longest_wait: Duration,
    limit: i64,
) -> sqlx::Result<(usize, Vec<Announcement>)> {
    let mut tx = db.begin().await?;
    let rows = sqlx::query!(
        // Written so that only an index plan is possible: a cached plan from when no order was late would take hours
        // for a million of them.
        r#"WITH due AS MATERIALIZED (
               UPDATE orders.late_orders
               SET check_at = now() + make_interval(secs =>
                       least($3, $2 * power(2, least(announcements, 20))) * (1 + random() / 4)),
                   announcements = announcements + 1
               WHERE ctid = ANY (ARRAY(
                   SELECT ctid FROM orders.late_orders
                   WHERE check_at <= now() ORDER BY check_at LIMIT $1 FOR UPDATE SKIP LOCKED))
               RETURNING order_id, unpublished
           )
           SELECT due.order_id AS "order_id!", placed.ssd_id AS "ssd_id?", placed.user_id AS "user_id?",
                  placed.barcode AS "barcode?", placed.quantity AS "quantity?", placed.unit_price AS "unit_price?",
                  placed.status::text, placed.placed_at AS "placed_at?", placed.missing,
                  coalesce(placed.ended_at, placed.completed_at, placed.shipped_at, placed.paid_at, placed.placed_at)
                  AS since,
                  NOT EXISTS (SELECT FROM orders.unfinished_orders WHERE id = due.order_id OFFSET 0) AS "is_done!",
                  coalesce(due.unpublished AND placed.status = 'pending', false) AS "is_unpublished!",
                  -- Not if a clock was ahead when it reached its status.
                  coalesce(placed.deadline BETWEEN now() AND now() + make_interval(secs => $5)
                           AND greatest(placed.placed_at, placed.paid_at, placed.shipped_at, placed.completed_at,
                                        placed.ended_at)
                               <= now() + make_interval(secs => $4), false) AS "has_time!"
           FROM due LEFT JOIN LATERAL
                (SELECT id, ssd_id, user_id, barcode, quantity, unit_price, status, placed_at, paid_at, shipped_at,
                        completed_at, ended_at, missing, deadline
                 FROM orders.product_orders WHERE id = due.order_id OFFSET 0) AS placed ON true"#,
        limit,
        pause.as_secs_f64(),
        longest_pause.as_secs_f64(),
        CLOCK_TOLERANCE.as_secs_f64(),
        longest_wait.as_secs_f64(),
    )
    .fetch_all(&mut *tx)
    .await?;
    let claimed = rows.len();
    let (mut done, mut early, mut announcements) = (Vec::new(), Vec::new(), Vec::new());
    for row in rows {
        if row.is_done {
            done.push(row.order_id);
        } else if row.has_time && !row.is_unpublished {
            early.push(row.order_id);
        } else if let (
            Some(ssd_id),
            Some(user_id),
            Some(barcode),
            Some(quantity),
            Some(unit_price),
            Some(placed_at),
            Some(status),
            Some(since),
        ) =
            (row.ssd_id, row.user_id, row.barcode, row.quantity, row.unit_price, row.placed_at, row.status, row.since)
        {
            let (id, missing) = (row.order_id, row.missing);
            let order = OrderRow { id, ssd_id, user_id, barcode, quantity, unit_price, status, placed_at, missing };
            let order = order.into_order()?;
            announcements.push(Announcement { order, since, is_unpublished: row.is_unpublished });
        }
    }
    if !done.is_empty() {
        sqlx::query!("DELETE FROM orders.late_orders WHERE order_id = ANY($1)", &done).execute(&mut *tx).await?;
    }
    if !early.is_empty() {
        check_at_deadline(&mut tx, &early).await?;
    }
    tx.commit().await?;
    Ok((claimed, announcements))
}

/// Records that these orders, each with its status, were announced again at `at`.
pub(crate) async fn record_announced(
    db: &PgPool,
    ids: &[Uuid],
    statuses: &[&str],
    at: DateTime<Utc>,
) -> sqlx::Result<()> {
    sqlx::query!(
        "INSERT INTO orders.announcements (order_id, announced_at, status)
         SELECT id, $3, status::orders.order_status FROM unnest($1::uuid[], $2::text[]) AS announced (id, status)
         ON CONFLICT DO NOTHING",
        ids,
        statuses as _,
        at,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Sets the next check of late orders to their deadline.
async fn check_at_deadline(conn: &mut PgConnection, ids: &[Uuid]) -> sqlx::Result<()> {
    sqlx::query!(
        "UPDATE orders.late_orders
         SET check_at = (SELECT deadline FROM orders.product_orders WHERE id = order_id), announcements = 0, unpublished = false
         WHERE order_id = ANY($1)",
        ids,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Makes late orders due again after `pause`, in seconds of the database's clock, because the broker did not
/// acknowledge their announcement.
pub(crate) async fn retry_announcements(db: &PgPool, ids: &[Uuid], pause: Duration) -> sqlx::Result<()> {
    sqlx::query!(
        // An announcement that was not acknowledged does not count.
        "UPDATE orders.late_orders
         SET check_at = now() + make_interval(secs => $2), announcements = greatest(announcements - 1, 0)
         WHERE order_id = ANY($1)",
        ids,
        pause.as_secs_f64(),
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Numbers of late orders.
#[derive(Debug)]
pub(crate) struct LateCounts {
    /// Orders that are past their deadline although they were announced again.
    pub(crate) still_overdue: i64,
    /// Orders whose `orders.pending` event the broker has not acknowledged yet.
    pub(crate) unpublished: i64,
    /// When the first of the unpublished orders was placed.
    pub(crate) first_unpublished: Option<DateTime<Utc>>,
}

/// Counts late orders.
pub(crate) async fn count_late(db: &PgPool) -> sqlx::Result<LateCounts> {
    let late = sqlx::query_as!(
        LateCounts,
        r#"SELECT (SELECT count(*) FROM orders.late_orders JOIN orders.unfinished_orders ON id = order_id
                   WHERE announcements > 0 AND NOT unpublished AND deadline < now())
                  AS "still_overdue!",
                  (SELECT count(*) FROM orders.late_orders WHERE unpublished) AS "unpublished!",
                  (SELECT placed_at FROM orders.product_orders
                   WHERE id = (SELECT order_id FROM orders.late_orders WHERE unpublished ORDER BY order_id LIMIT 1))
                  AS first_unpublished"#
    );
    late.fetch_one(db).await
}

/// The statuses whose oldest order [`find_oldest`] finds.
const UNDER_WAY: [OrderStatus; 3] = [OrderStatus::Pending, OrderStatus::Paid, OrderStatus::Shipped];

/// Returns when the oldest order in each status under way was placed; `None` if there is none. An order that the
/// checkpoint after its status has passed is in `orders.late_orders`, so that no index on the status is needed.
pub(crate) async fn find_oldest(db: &PgPool) -> sqlx::Result<[(OrderStatus, Option<DateTime<Utc>>); 3]> {
    let rows = sqlx::query!(
        r#"SELECT wanted.status::text AS "status!", late.placed_at AS "late?", newer.placed_at AS "newer?"
           FROM (VALUES ('pending'::orders.order_status, 'paid'::orders.order_status),
                        ('paid', 'paid'), ('shipped', 'shipped')) AS wanted (status, checkpoint)
           JOIN orders.checkpoints AS checkpoint ON checkpoint.status = wanted.checkpoint
           LEFT JOIN LATERAL (
               SELECT placed_at FROM orders.late_orders
               JOIN orders.product_orders ON id = order_id AND product_orders.status = wanted.status
               ORDER BY order_id LIMIT 1) AS late ON true
           LEFT JOIN LATERAL (
               SELECT placed_at FROM orders.product_orders
               WHERE id > checkpoint.through AND product_orders.status = wanted.status
               ORDER BY id LIMIT 1) AS newer ON true"#
    )
    .fetch_all(db)
    .await?;
    Ok(UNDER_WAY.map(|status| {
        let row = rows.iter().find(|row| row.status == status.as_str());
        (status, row.and_then(|row| [row.late, row.newer].into_iter().flatten().min()))
    }))
}
