//! The checks: what each finds, in words.

use super::{
    broker,
    finding::{Check, Finding, Found},
    store,
};
use chrono::{DateTime, Utc};
use off_kit::Bus;
use sqlx::PgPool;

impl Check {
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
    let rows = store::find_overdue_orders(db, as_of).await?;
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
    let rows = store::find_impossible_histories(db).await?;
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
    let rows = store::find_wrong_deliveries(db).await?;
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
    let rows = store::find_wrong_shelves(db).await?;
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
    let rows = store::find_wrongly_announced_shelves(db, as_of).await?;
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
    let rows = store::find_stuck_messages(db, as_of).await?;
    Ok(rows
        .into_iter()
        .map(|row| Found {
            about: format!("{} {}", row.source, row.message_id),
            text: format!("{} of {} is stuck in the outbox ({})", row.subject, row.source, row.message_id),
        })
        .collect())
}
