//! What is checked, and what a check finds.

use serde::Serialize;
use uuid::Uuid;

/// An invariant that is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Check {
    /// Each order is done, or the deadline of its next step has not passed. Done are orders that are delivered and
    /// earned, and those that ended without being shipped and are refunded, if they were charged; and their last letter is
    /// written.
    Orders,
    /// The statuses of each order are in chronological order.
    History,
    /// Each delivery belongs to one order that was shipped, and matches it.
    Deliveries,
    /// Each balance is the sum of its transfers, and the money of each order is that of its status.
    Money,
    /// Each letter about an order is true, and has the facts of the order.
    Letters,
    /// Each shelf item has the quantity that was delivered minus what was consumed, and `stock.low` is published while
    /// it is low.
    Shelves,
    /// No message is stalled in the outbox.
    Outbox,
    /// Each published order is in Postgres, with the same person, quantity and price.
    Broker,
}

impl Check {
    /// All checks, in the order in which they are shown.
    pub const ALL: [Self; 8] = [
        Self::Orders,
        Self::History,
        Self::Deliveries,
        Self::Money,
        Self::Letters,
        Self::Shelves,
        Self::Outbox,
        Self::Broker,
    ];
}

/// A violation of an invariant.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    /// The invariant.
    pub check: Check,
    /// Identifies the order, account, shelf item or message; the same each time it is checked.
    pub(super) about: String,
    /// What was found; may differ each time.
    pub text: String,
}

impl Finding {
    pub(super) fn of_order(check: Check, id: Uuid, text: String) -> Self {
        Self { check, about: format!("order {id}"), text }
    }

    pub(super) fn of_shelf_item(ssd_id: i64, barcode: &str, what: &str, text: String) -> Self {
        Self { check: Check::Shelves, about: format!("device {ssd_id} {barcode} {what}"), text }
    }
}
