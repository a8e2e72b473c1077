//! The checks: what each finds, in words.

use super::{
    broker,
    finding::{Check, Finding},
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
        Ok(match self {
            Self::Orders => wrong_deadlines(db, as_of).await?,
            Self::History => impossible_histories(db).await?,
            Self::Deliveries => wrong_deliveries(db).await?,
            Self::Money => [wrong_balances(db).await?, wrong_charges(db).await?, wrong_reversals(db).await?].concat(),
            Self::Shelves => [wrong_quantities(db).await?, wrong_reminders(db, as_of).await?].concat(),
            Self::Outbox => stalled_messages(db, as_of).await?,
            Self::Broker => broker::orders_unknown_to_postgres(db, bus).await?,
        })
    }
}

async fn wrong_deadlines(db: &PgPool, as_of: Option<DateTime<Utc>>) -> sqlx::Result<Vec<Finding>> {
    let rows = store::find_wrong_deadlines(db, as_of).await?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let next = match row.status.as_str() {
                "pending" => "was never paid or refused",
                "paid" => "was never shipped",
                "shipped" => "was never completed",
                "completed" if row.is_delivered => "was never earned",
                "completed" => "was never delivered",
                _ => "was never refunded",
            };
            let due = row.deadline.format("%Y-%m-%d %H:%M:%S");
            let text = if row.is_too_far {
                format!(
                    "order {} is {} with the deadline {due} UTC, too far in the future: a clock was wrong",
                    row.id, row.status
                )
            } else {
                format!("order {} is {} and {next}: that was due at {due} UTC", row.id, row.status)
            };
            Finding { check: Check::Orders, about: format!("order {} {}", row.id, row.status), text }
        })
        .collect())
}

async fn impossible_histories(db: &PgPool) -> sqlx::Result<Vec<Finding>> {
    let rows = store::find_impossible_histories(db).await?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let what = if row.in_future {
                "was placed in the future: a clock was wrong"
            } else if row.status_in_future {
                "reached a status in the future: a clock was wrong"
            } else if row.id_time_differs {
                "was placed at a time that differs from the time in its id"
            } else {
                "reached its statuses in an impossible order"
            };
            Finding::of_order(Check::History, row.id, format!("order {} {what}", row.id))
        })
        .collect())
}

async fn wrong_deliveries(db: &PgPool) -> sqlx::Result<Vec<Finding>> {
    let rows = store::find_wrong_deliveries(db).await?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let what = match row.unshipped.as_deref() {
                _ if row.unknown => "was delivered but never placed".to_owned(),
                Some(status) => format!("was delivered but is {status}"),
                None => "has a delivery that differs from it".to_owned(),
            };
            Finding::of_order(Check::Deliveries, row.order_id, format!("order {} {what}", row.order_id))
        })
        .collect())
}

async fn wrong_balances(db: &PgPool) -> sqlx::Result<Vec<Finding>> {
    let rows = store::find_wrong_balances(db).await?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let (user, holds, should) = (row.user_id, row.holds, row.should_hold);
            let text = format!("the account of person {user} holds {holds} cents and should hold {should}");
            Finding { check: Check::Money, about: format!("person {user}"), text }
        })
        .collect())
}

async fn wrong_charges(db: &PgPool) -> sqlx::Result<Vec<Finding>> {
    let rows = store::find_wrong_charges(db).await?;
    let findings =
        rows.into_iter().map(|row| Finding::of_order(Check::Money, row.id, format!("order {} {}", row.id, row.what)));
    Ok(findings.collect())
}

async fn wrong_reversals(db: &PgPool) -> sqlx::Result<Vec<Finding>> {
    let rows = store::find_wrong_reversals(db).await?;
    Ok(rows
        .into_iter()
        .map(|subject| {
            let text = format!("the reversal of {subject} does not match a deposit or withdrawal");
            Finding { check: Check::Money, about: format!("reversal {subject}"), text }
        })
        .collect())
}

async fn wrong_quantities(db: &PgPool) -> sqlx::Result<Vec<Finding>> {
    let rows = store::find_wrong_quantities(db).await?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let (ssd, barcode, holds, should) = (row.ssd_id, row.barcode, row.holds, row.should_hold);
            let text = format!("device {ssd} holds {holds} of {barcode} and should hold {should}");
            Finding::of_shelf_item(ssd, &barcode, "quantity", text)
        })
        .collect())
}

/// Shelf items that are low although `stock.low` was not published on time, and those that are marked as low but are
/// not.
async fn wrong_reminders(db: &PgPool, as_of: Option<DateTime<Utc>>) -> sqlx::Result<Vec<Finding>> {
    let rows = store::find_wrong_reminders(db, as_of).await?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let what =
                if row.is_low { "low, but `stock.low` was not published on time" } else { "marked as low, but is not" };
            let text = format!("device {} holds {} of {}: {what}", row.ssd_id, row.quantity, row.barcode);
            Finding::of_shelf_item(row.ssd_id, &row.barcode, "reminder", text)
        })
        .collect())
}

async fn stalled_messages(db: &PgPool, as_of: Option<DateTime<Utc>>) -> sqlx::Result<Vec<Finding>> {
    let rows = store::find_stalled_messages(db, as_of).await?;
    Ok(rows
        .into_iter()
        .map(|row| Finding {
            check: Check::Outbox,
            about: format!("{} {}", row.source, row.event_id),
            text: format!("{} of {} is stalled in the outbox ({})", row.subject, row.source, row.event_id),
        })
        .collect())
}
