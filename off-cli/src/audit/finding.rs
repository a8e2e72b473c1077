//! What is checked, and what a check finds.

use serde::Serialize;
use uuid::Uuid;

/// An invariant that is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Check {
    /// Each order is delivered, or the deadline of its next step has not passed.
    Orders,
    /// The statuses of each order are in chronological order.
    History,
    /// Each delivery belongs to one order and matches it.
    Deliveries,
    /// Each shelf holds what was delivered minus what was consumed, and is announced when low.
    Shelves,
    /// No message is stuck in the outbox.
    Outbox,
    /// Each announced order is in Postgres.
    Broker,
}

impl Check {
    pub(super) const ALL: [Self; 6] =
        [Self::Orders, Self::History, Self::Deliveries, Self::Shelves, Self::Outbox, Self::Broker];
}

/// A violation of an invariant.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    /// The invariant.
    pub check: Check,
    /// Identifies the order, shelf or message; the same each time it is checked.
    pub(super) about: String,
    /// What was found.
    pub text: String,
}

/// A violation: `about` identifies what violates the check and is stable; `text` may differ each time.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) about: String,
    pub(super) text: String,
}

impl Found {
    pub(super) fn of_order(id: Uuid, text: String) -> Self {
        Self { about: format!("order {id}"), text }
    }

    pub(super) fn of_shelf(ssd_id: i64, barcode: &str, what: &str, text: String) -> Self {
        Self { about: format!("ssd {ssd_id} {barcode} {what}"), text }
    }
}
