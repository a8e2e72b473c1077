//! The checks. Each query is one statement, so that it sees one snapshot.

use super::{Check, Finding, broker};
use chrono::{DateTime, Utc};
use off_events::streams;
use off_kit::Bus;
use serde::Serialize;
use sqlx::PgPool;
use std::time::Duration;
use uuid::Uuid;

/// A message that has been in the outbox for longer is stuck: a relay polls every second.
const OUTBOX_LIMIT_SECONDS: f64 = 10.0;

/// Tolerance for the difference between the times in an order's id and in its row, and for times that are ahead of the
/// database clock.
const CLOCK_TOLERANCE_SECONDS: f64 = 30.0;

/// A deadline of an order is at most this far in the future.
const LONGEST_DEADLINE: Duration = Duration::from_hours(24).saturating_add(streams::LONGEST_WAIT.saturating_mul(2));

/// A reminder of a shelf is at most this far in the future.
const LONGEST_REMINDER: Duration = Duration::from_hours(48);

/// How late the repeated announcement of a low shelf may be.
const REMINDER_LIMIT_SECONDS: f64 = 30.0;

/// Maximum number of findings per query.
pub(super) const MOST: i64 = 1000;

/// Numbers of rows at the end of the audit.
#[derive(Debug, Serialize)]
pub(crate) struct Counts {
    pub(super) pending: i64,
    pub(super) shipped: i64,
    pub(super) completed: i64,
    pub(super) deliveries: i64,
    pub(super) consumptions: i64,
    pub(super) shelves: i64,
    pub(super) outbox: i64,
}

/// The current time by the clock of the database.
pub(super) async fn database_time(db: &PgPool) -> sqlx::Result<DateTime<Utc>> {
    sqlx::query_scalar!(r#"SELECT now() AS "now!""#).fetch_one(db).await
}

pub(super) async fn count(db: &PgPool) -> sqlx::Result<Counts> {
    sqlx::query_as!(
        Counts,
        r#"SELECT count(*) FILTER (WHERE status = 'pending') AS "pending!",
                  count(*) FILTER (WHERE status = 'shipped') AS "shipped!",
                  count(*) FILTER (WHERE status = 'completed') AS "completed!",
                  (SELECT count(*) FROM users.deliveries) AS "deliveries!",
                  (SELECT count(*) FROM users.consumptions) AS "consumptions!",
                  (SELECT count(*) FROM users.shelf_items) AS "shelves!",
                  (SELECT count(*) FROM outbox.messages) AS "outbox!"
           FROM orders.product_orders"#
    )
    .fetch_one(db)
    .await
}

/// A violation: `about` identifies what violates the check and is stable; `text` may differ each time.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) about: String,
    pub(super) text: String,
}

impl Found {
    fn of_order(id: Uuid, text: String) -> Self {
        Self { about: format!("order {id}"), text }
    }

    fn of_shelf(ssd_id: i64, barcode: &str, what: &str, text: String) -> Self {
        Self { about: format!("ssd {ssd_id} {barcode} {what}"), text }
    }
}

impl Check {
    pub(super) const ALL: [Self; 6] =
        [Self::Orders, Self::History, Self::Deliveries, Self::Shelves, Self::Outbox, Self::Broker];

    /// Returns the violations. Deadlines are compared with `as_of`, or with the current time if it is `None`.
    pub(super) async fn run(
        self,
        db: &PgPool,
        bus: &Bus,
        as_of: Option<DateTime<Utc>>,
    ) -> anyhow::Result<Vec<Finding>> {
        let found = match self {
            Self::Orders => overdue_orders(db, as_of).await?,
            Self::History => impossible_histories(db).await?,
            Self::Deliveries => wrong_deliveries(db).await?,
            Self::Shelves => [wrong_shelves(db).await?, wrongly_announced_shelves(db, as_of).await?].concat(),
            Self::Outbox => stuck_messages(db, as_of).await?,
            Self::Broker => broker::orders_unknown_to_postgres(db, bus).await?,
        };
        Ok(found.into_iter().map(|Found { about, text }| Finding { check: self, about, text }).collect())
    }
}

async fn overdue_orders(db: &PgPool, as_of: Option<DateTime<Utc>>) -> sqlx::Result<Vec<Found>> {
    let rows = sqlx::query!(
        r#"SELECT id, status::text AS "status!", due_at, due_at > now() AS "too_late!" FROM orders.product_orders AS placed
           WHERE (due_at < coalesce($2, now()) OR due_at > now() + make_interval(secs => $3))
             AND (status <> 'completed' OR NOT EXISTS (SELECT FROM users.deliveries WHERE order_id = placed.id))
           ORDER BY id LIMIT $1"#,
        MOST,
        as_of,
        LONGEST_DEADLINE.as_secs_f64(),
    )
    .fetch_all(db)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let next = match row.status.as_str() {
                "pending" => "was never shipped",
                "shipped" => "was never completed",
                _ => "was never delivered",
            };
            let due = row.due_at.format("%Y-%m-%d %H:%M:%S");
            let text = if row.too_late {
                format!(
                    "order {} is {} with the deadline {due} UTC, too far in the future: a clock was wrong",
                    row.id, row.status
                )
            } else {
                format!("order {} is {} and {next}: that was due at {due} UTC", row.id, row.status)
            };
            Found { about: format!("order {} {}", row.id, row.status), text }
        })
        .collect())
}

async fn impossible_histories(db: &PgPool) -> sqlx::Result<Vec<Found>> {
    let rows = sqlx::query!(
        r#"SELECT id, placed_at > now() + make_interval(secs => $2) AS "in_future!",
                  (greatest(shipped_at, completed_at) > now() + make_interval(secs => $2)) IS TRUE AS "state_in_future!",
                  abs(extract(epoch FROM placed_at) - id_time) > $2 AS "other_time!"
           FROM orders.product_orders,
                -- The time in a UUID of version 7.
                LATERAL (SELECT ('x' || translate(left(id::text, 13), '-', ''))::bit(48)::bigint / 1000.0 AS id_time) AS of_id
           WHERE shipped_at < placed_at OR completed_at < shipped_at OR completed_at < placed_at
              OR (status = 'pending' AND shipped_at IS NOT NULL)
              OR (status = 'shipped' AND shipped_at IS NULL)
              OR greatest(shipped_at, completed_at) > now() + make_interval(secs => $2)
              OR (status = 'completed') <> (completed_at IS NOT NULL)
              OR placed_at > now() + make_interval(secs => $2)
              OR abs(extract(epoch FROM placed_at) - id_time) > $2
           ORDER BY id LIMIT $1"#,
        MOST,
        CLOCK_TOLERANCE_SECONDS,
    )
    .fetch_all(db)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let what = if row.in_future {
                "was placed in the future: a clock was wrong"
            } else if row.state_in_future {
                "reached a status in the future: a clock was wrong"
            } else if row.other_time {
                "was placed at a time that differs from the time in its id"
            } else {
                "reached its statuses in an impossible order"
            };
            Found::of_order(row.id, format!("order {} {what}", row.id))
        })
        .collect())
}

async fn wrong_deliveries(db: &PgPool) -> sqlx::Result<Vec<Found>> {
    let rows = sqlx::query!(
        r#"SELECT order_id, placed.id IS NULL AS "unknown!"
           FROM users.deliveries AS delivery LEFT JOIN orders.product_orders AS placed ON placed.id = order_id
           WHERE (placed.ssd_id, placed.barcode, placed.quantity)
                 IS DISTINCT FROM (delivery.ssd_id, delivery.barcode, delivery.quantity)
           ORDER BY order_id LIMIT $1"#,
        MOST,
    )
    .fetch_all(db)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let what =
                if row.unknown { "was delivered but never placed" } else { "has a delivery that differs from it" };
            Found::of_order(row.order_id, format!("order {} {what}", row.order_id))
        })
        .collect())
}

async fn wrong_shelves(db: &PgPool) -> sqlx::Result<Vec<Found>> {
    let rows = sqlx::query!(
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
    .fetch_all(db)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let (ssd, barcode, holds, should) = (row.ssd_id, row.barcode, row.holds, row.should_hold);
            let text = format!("ssd {ssd} holds {holds} of {barcode} and should hold {should}");
            Found::of_shelf(ssd, &barcode, "quantity", text)
        })
        .collect())
}

/// Shelves that are low but not announced on time, and shelves that are marked as low but are not.
async fn wrongly_announced_shelves(db: &PgPool, as_of: Option<DateTime<Utc>>) -> sqlx::Result<Vec<Found>> {
    let rows = sqlx::query!(
        r#"SELECT ssd_id, barcode, quantity, quantity <= reorder_point AS "is_low!" FROM users.shelf_items
           WHERE (quantity <= reorder_point) <> (low_since IS NOT NULL)
              OR (low_since IS NOT NULL) <> (remind_at IS NOT NULL)
              OR remind_at < coalesce($3, now()) - make_interval(secs => $2)
              OR remind_at > now() + make_interval(secs => $4)
           ORDER BY ssd_id, barcode LIMIT $1"#,
        MOST,
        REMINDER_LIMIT_SECONDS,
        as_of,
        LONGEST_REMINDER.as_secs_f64(),
    )
    .fetch_all(db)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let what = if row.is_low { "low, but not announced on time" } else { "marked as low, but is not" };
            let text = format!("ssd {} holds {} of {}: {what}", row.ssd_id, row.quantity, row.barcode);
            Found::of_shelf(row.ssd_id, &row.barcode, "reminder", text)
        })
        .collect())
}

async fn stuck_messages(db: &PgPool, as_of: Option<DateTime<Utc>>) -> sqlx::Result<Vec<Found>> {
    let rows = sqlx::query!(
        "SELECT source, subject, message_id FROM outbox.messages
         WHERE occurred_at < coalesce($3, now()) - make_interval(secs => $2) ORDER BY source, id LIMIT $1",
        MOST,
        OUTBOX_LIMIT_SECONDS,
        as_of,
    )
    .fetch_all(db)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| Found {
            about: format!("{} {}", row.source, row.message_id),
            text: format!("{} of {} is stuck in the outbox ({})", row.subject, row.source, row.message_id),
        })
        .collect())
}
