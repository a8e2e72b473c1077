//! The queries of the audit. Those of a round run in one snapshot.

mod counts;
mod events;
mod letters;
mod money;
mod snapshot;

pub(super) use counts::{Counts, count_rows};
pub(super) use events::{Event, Terms, WrongEvent, find_wrong_events};
pub(super) use letters::{WrongLetter, find_wrong_letters};
pub(super) use money::{find_wrong_balances, find_wrong_charges, find_wrong_reversals};
pub(super) use snapshot::{begin_snapshot, read_time};

use chrono::{DateTime, Utc};
use off_events::streams;
use sqlx::PgConnection;
use std::time::Duration;
use uuid::Uuid;

/// A message that has been in the outbox for longer is stalled: a relay polls every second.
const OUTBOX_LIMIT_SECONDS: f64 = 10.0;

/// Tolerance for the difference between the times in an order's id and in its row, and for times that are ahead of the
/// database clock.
const CLOCK_TOLERANCE_SECONDS: f64 = 30.0;

/// A deadline of an order is at most this far in the future.
const LONGEST_DEADLINE: Duration = Duration::from_hours(24).saturating_add(streams::LONGEST_WAIT.saturating_mul(2));

/// The next reminder of a low shelf item is at most this far in the future.
const LONGEST_REMINDER: Duration = Duration::from_hours(48);

/// How late the reminder of a low shelf item may be.
const REMINDER_LIMIT_SECONDS: f64 = 30.0;

/// Maximum number of findings per query.
pub(super) const MOST: i64 = 1000;

/// An order that is not done and whose deadline has passed or is too far in the future.
#[derive(Debug)]
pub(super) struct WrongDeadline {
    pub(super) id: Uuid,
    pub(super) status: String,
    pub(super) deadline: DateTime<Utc>,
    /// The deadline is too far in the future; otherwise it has passed.
    pub(super) is_too_far: bool,
    /// The units are on the shelf.
    pub(super) is_delivered: bool,
    /// Its money is earned or refunded, or will never be charged.
    pub(super) is_settled: bool,
}

/// Finds orders that are not done and whose deadline has passed or is too far in the future.
pub(super) async fn find_wrong_deadlines(
    conn: &mut PgConnection,
    as_of: Option<DateTime<Utc>>,
) -> sqlx::Result<Vec<WrongDeadline>> {
    sqlx::query_as!(
        WrongDeadline,
        r#"SELECT id AS "id!", status::text AS "status!", deadline AS "deadline!", deadline > now() AS "is_too_far!",
                  EXISTS (SELECT FROM users.deliveries WHERE order_id = id) AS "is_delivered!",
                  EXISTS (SELECT FROM billing.settled_orders WHERE order_id = id) AS "is_settled!"
           FROM orders.unfinished_orders
           WHERE deadline < coalesce($2, now()) OR deadline > now() + make_interval(secs => $3)
           ORDER BY id LIMIT $1"#,
        MOST,
        as_of,
        LONGEST_DEADLINE.as_secs_f64(),
    )
    .fetch_all(conn)
    .await
}

/// An order whose times cannot be right, and which of them.
#[derive(Debug)]
pub(super) struct ImpossibleHistory {
    pub(super) id: Uuid,
    /// It was placed in the future.
    pub(super) in_future: bool,
    /// It reached a status in the future.
    pub(super) status_in_future: bool,
    /// The time in its id differs from the time it was placed.
    pub(super) id_time_differs: bool,
}

/// Finds orders whose statuses and times contradict each other or the clock.
pub(super) async fn find_impossible_histories(conn: &mut PgConnection) -> sqlx::Result<Vec<ImpossibleHistory>> {
    sqlx::query_as!(
        ImpossibleHistory,
        r#"SELECT id, placed_at > now() + make_interval(secs => $2) AS "in_future!",
                  (newest > now() + make_interval(secs => $2)) IS TRUE AS "status_in_future!",
                  abs(date_part('epoch', placed_at) - id_time) > $2 AS "id_time_differs!"
           FROM orders.product_orders,
                -- The time in a UUID of version 7. `numeric` would be slower.
                LATERAL (SELECT ('x' || translate(left(id::text, 13), '-', ''))::bit(48)::bigint / 1000.0::float8 AS id_time,
                                greatest(paid_at, shipped_at, completed_at, ended_at) AS newest) AS times
           WHERE least(paid_at, shipped_at, completed_at, ended_at) < placed_at
              OR shipped_at < paid_at OR completed_at < greatest(paid_at, shipped_at)
              OR (status = 'pending' AND (paid_at IS NOT NULL OR shipped_at IS NOT NULL))
              OR (status = 'paid' AND (paid_at IS NULL OR shipped_at IS NOT NULL))
              OR (status = 'shipped' AND shipped_at IS NULL)
              -- A cancelled order may be paid later than it ended: the cancellation overtook the charge.
              OR (status = 'refused' AND paid_at IS NOT NULL)
              OR (status IN ('refused', 'cancelled') AND shipped_at IS NOT NULL)
              OR (status = 'completed') <> (completed_at IS NOT NULL)
              OR (status IN ('refused', 'cancelled')) <> (ended_at IS NOT NULL)
              OR newest > now() + make_interval(secs => $2)
              OR placed_at > now() + make_interval(secs => $2)
              OR abs(date_part('epoch', placed_at) - id_time) > $2
           ORDER BY id LIMIT $1"#,
        MOST,
        CLOCK_TOLERANCE_SECONDS,
    )
    .fetch_all(conn)
    .await
}

/// A delivery that belongs to no order, or to one that was never shipped, or differs from its order.
#[derive(Debug)]
pub(super) struct WrongDelivery {
    pub(super) order_id: Uuid,
    /// Whether there is no such order.
    pub(super) unknown: bool,
    /// The status of the order, if it was never shipped.
    pub(super) unshipped: Option<String>,
}

/// Finds deliveries that do not match their order.
pub(super) async fn find_wrong_deliveries(conn: &mut PgConnection) -> sqlx::Result<Vec<WrongDelivery>> {
    sqlx::query_as!(
        WrongDelivery,
        r#"SELECT order_id, placed.id IS NULL AS "unknown!",
                  CASE WHEN placed.status NOT IN ('shipped', 'completed') THEN placed.status::text END AS unshipped
           FROM users.deliveries AS delivery LEFT JOIN orders.product_orders AS placed ON placed.id = order_id
           WHERE (placed.ssd_id, placed.barcode, placed.quantity)
                 IS DISTINCT FROM (delivery.ssd_id, delivery.barcode, delivery.quantity)
              OR placed.status NOT IN ('shipped', 'completed')
           ORDER BY order_id LIMIT $1"#,
        MOST,
    )
    .fetch_all(conn)
    .await
}

/// A shelf item with another quantity than its deliveries and consumptions add up to.
#[derive(Debug)]
pub(super) struct WrongQuantity {
    pub(super) ssd_id: i64,
    pub(super) barcode: String,
    pub(super) holds: i64,
    pub(super) should_hold: i64,
}

/// Finds shelf items whose quantity is wrong.
pub(super) async fn find_wrong_quantities(conn: &mut PgConnection) -> sqlx::Result<Vec<WrongQuantity>> {
    sqlx::query_as!(
        WrongQuantity,
        r#"WITH moved AS (
               SELECT ssd_id, barcode, sum(units) AS units
               FROM (SELECT ssd_id, barcode, quantity::bigint AS units FROM users.deliveries
                     UNION ALL
                     SELECT ssd_id, barcode, -taken FROM users.consumptions) AS movement
               GROUP BY ssd_id, barcode
           )
           SELECT ssd_id AS "ssd_id!", barcode AS "barcode!", coalesce(shelf.quantity, 0)::bigint AS "holds!",
                  coalesce(moved.units, 0)::bigint AS "should_hold!"
           FROM users.shelf_items AS shelf FULL JOIN moved USING (ssd_id, barcode)
           WHERE coalesce(shelf.quantity, 0) <> coalesce(moved.units, 0)
           ORDER BY ssd_id, barcode LIMIT $1"#,
        MOST,
    )
    .fetch_all(conn)
    .await
}

/// A shelf item whose mark as low or whose next reminder is wrong.
#[derive(Debug)]
pub(super) struct WrongReminder {
    pub(super) ssd_id: i64,
    pub(super) barcode: String,
    pub(super) quantity: i32,
    pub(super) is_low: bool,
}

/// Finds shelf items that are low although `stock.low` was not published on time, and those that are marked as low but
/// are not. An item whose restocking is paused is never low.
pub(super) async fn find_wrong_reminders(
    conn: &mut PgConnection,
    as_of: Option<DateTime<Utc>>,
) -> sqlx::Result<Vec<WrongReminder>> {
    sqlx::query_as!(
        WrongReminder,
        r#"SELECT ssd_id, barcode, quantity, quantity <= reorder_point AND NOT is_paused AS "is_low!"
           FROM users.shelf_items
           WHERE (quantity <= reorder_point AND NOT is_paused) <> (low_since IS NOT NULL)
              OR (low_since IS NOT NULL) <> (remind_at IS NOT NULL)
              OR remind_at < coalesce($3, now()) - make_interval(secs => $2)
              OR remind_at > now() + make_interval(secs => $4)
           ORDER BY ssd_id, barcode LIMIT $1"#,
        MOST,
        REMINDER_LIMIT_SECONDS,
        as_of,
        LONGEST_REMINDER.as_secs_f64(),
    )
    .fetch_all(conn)
    .await
}

/// A message that has been in the outbox for too long.
#[derive(Debug)]
pub(super) struct StalledMessage {
    pub(super) source: String,
    pub(super) subject: String,
    pub(super) event_id: String,
}

/// Finds messages that the relay should have published long ago.
pub(super) async fn find_stalled_messages(
    conn: &mut PgConnection,
    as_of: Option<DateTime<Utc>>,
) -> sqlx::Result<Vec<StalledMessage>> {
    sqlx::query_as!(
        StalledMessage,
        "SELECT source, subject, event_id FROM outbox.messages
         WHERE occurred_at < coalesce($3, now()) - make_interval(secs => $2) ORDER BY source, id LIMIT $1",
        MOST,
        OUTBOX_LIMIT_SECONDS,
        as_of,
    )
    .fetch_all(conn)
    .await
}
