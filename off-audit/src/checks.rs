//! The checks: what each finds, in words.

use super::{
    broker,
    finding::{Check, Finding},
    snapshot::Snapshot,
    store,
};
use chrono::{DateTime, Utc};
use off_kit::Bus;
use sqlx::PgConnection;

impl Check {
    /// Returns the violations in `snapshot`. Deadlines are compared with `as_of`, or with the time of the snapshot if it is
    /// `None`.
    pub(super) async fn run(
        self,
        snapshot: &mut Snapshot,
        bus: &Bus,
        as_of: Option<DateTime<Utc>>,
    ) -> anyhow::Result<Vec<Finding>> {
        let conn = &mut *snapshot.tx;
        Ok(match self {
            Self::Orders => wrong_deadlines(conn, as_of).await?,
            Self::History => impossible_histories(conn).await?,
            Self::Deliveries => wrong_deliveries(conn).await?,
            Self::Money => {
                let mut findings = wrong_balances(conn).await?;
                findings.extend(wrong_charges(conn).await?);
                findings.extend(wrong_reversals(conn).await?);
                findings
            }
            Self::Letters => wrong_letters(conn).await?,
            Self::Shelves => {
                let mut findings = wrong_quantities(conn).await?;
                findings.extend(wrong_reminders(conn, as_of).await?);
                findings
            }
            Self::Outbox => stalled_messages(conn, as_of).await?,
            Self::Broker => broker::wrong_events(snapshot, bus).await?,
        })
    }
}

async fn wrong_deadlines(conn: &mut PgConnection, as_of: Option<DateTime<Utc>>) -> sqlx::Result<Vec<Finding>> {
    let rows = store::find_wrong_deadlines(conn, as_of).await?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let next = match row.status.as_str() {
                "pending" => "was never paid or refused",
                "paid" => "was never shipped",
                "shipped" => "was never completed",
                "completed" if !row.is_delivered => "was never delivered",
                "completed" if !row.is_settled => "was never earned",
                "cancelled" if !row.is_settled => "was never refunded",
                _ => "has no letter about it",
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

async fn impossible_histories(conn: &mut PgConnection) -> sqlx::Result<Vec<Finding>> {
    let rows = store::find_impossible_histories(conn).await?;
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

async fn wrong_deliveries(conn: &mut PgConnection) -> sqlx::Result<Vec<Finding>> {
    let rows = store::find_wrong_deliveries(conn).await?;
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

async fn wrong_balances(conn: &mut PgConnection) -> sqlx::Result<Vec<Finding>> {
    let rows = store::find_wrong_balances(conn).await?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let (user, holds, should) = (row.user_id, row.holds, row.should_hold);
            let text = format!("the account of person {user} holds {holds} cents and should hold {should}");
            Finding { check: Check::Money, about: format!("person {user}"), text }
        })
        .collect())
}

async fn wrong_charges(conn: &mut PgConnection) -> sqlx::Result<Vec<Finding>> {
    let rows = store::find_wrong_charges(conn).await?;
    let findings =
        rows.into_iter().map(|row| Finding::of_order(Check::Money, row.id, format!("order {} {}", row.id, row.what)));
    Ok(findings.collect())
}

async fn wrong_reversals(conn: &mut PgConnection) -> sqlx::Result<Vec<Finding>> {
    let rows = store::find_wrong_reversals(conn).await?;
    Ok(rows
        .into_iter()
        .map(|subject| {
            let text = format!("the reversal of {subject} does not match a deposit or withdrawal");
            Finding { check: Check::Money, about: format!("reversal {subject}"), text }
        })
        .collect())
}

async fn wrong_letters(conn: &mut PgConnection) -> sqlx::Result<Vec<Finding>> {
    let rows = store::find_wrong_letters(conn).await?;
    let finding = |row: store::WrongLetter| {
        Finding::of_order(Check::Letters, row.order_id, format!("order {} {}", row.order_id, row.what))
    };
    Ok(rows.into_iter().map(finding).collect())
}

async fn wrong_quantities(conn: &mut PgConnection) -> sqlx::Result<Vec<Finding>> {
    let rows = store::find_wrong_quantities(conn).await?;
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
async fn wrong_reminders(conn: &mut PgConnection, as_of: Option<DateTime<Utc>>) -> sqlx::Result<Vec<Finding>> {
    let rows = store::find_wrong_reminders(conn, as_of).await?;
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

async fn stalled_messages(conn: &mut PgConnection, as_of: Option<DateTime<Utc>>) -> sqlx::Result<Vec<Finding>> {
    let rows = store::find_stalled_messages(conn, as_of).await?;
    Ok(rows
        .into_iter()
        .map(|row| Finding {
            check: Check::Outbox,
            about: format!("{} {}", row.source, row.event_id),
            text: format!("{} of {} is stalled in the outbox ({})", row.subject, row.source, row.event_id),
        })
        .collect())
}
