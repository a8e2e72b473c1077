//! Orders and their statuses.

use crate::{Barcode, Event, InvalidValue, OrderId, Quantity, SsdId};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};
use utoipa::ToSchema;

/// The status of an order. It only moves forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum OrderStatus {
    /// The order is stored; the supplier handles it.
    Pending,
    /// The order left the supplier; the delivery firm handles it.
    Shipped,
    /// The order arrived. The users service then adds its units to the shelf, which makes it delivered.
    Completed,
}

impl OrderStatus {
    /// All statuses, in the order in which an order reaches them.
    pub const ALL: [Self; 3] = [Self::Pending, Self::Shipped, Self::Completed];

    /// Its name in payloads, in SQL and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Shipped => "shipped",
            Self::Completed => "completed",
        }
    }

    /// The next status; `None` after the last.
    pub fn next(self) -> Option<Self> {
        match self {
            Self::Pending => Some(Self::Shipped),
            Self::Shipped => Some(Self::Completed),
            Self::Completed => None,
        }
    }

    /// The subject on which an order in this status is published.
    pub const fn subject(self) -> &'static str {
        match self {
            Self::Pending => Order::PENDING,
            Self::Shipped => Order::SHIPPED,
            Self::Completed => Order::COMPLETED,
        }
    }

    /// The subject of the message schedule that waits for this status, one per order. When the schedule fires,
    /// JetStream publishes an [`OrderDue`].
    pub fn schedule_subject(self, order: OrderId) -> String {
        format!("{}{self}.{order}", OrderDue::SCHEDULE_PREFIX)
    }

    /// The subjects of all message schedules that wait for this status.
    pub fn schedule_subjects(self) -> String {
        format!("{}{self}.*", OrderDue::SCHEDULE_PREFIX)
    }
}

impl FromStr for OrderStatus {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        const UNKNOWN: InvalidValue = InvalidValue("an order is pending, shipped or completed");
        Self::ALL.into_iter().find(|status| status.as_str() == text).ok_or(UNKNOWN)
    }
}

impl fmt::Display for OrderStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An order, as it is published and as the API returns it. In events, the subject corresponds to the `status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Order {
    /// Its id, which begins with the time at which it was placed.
    pub id: OrderId,
    /// The device whose shelf the products are for.
    pub ssd_id: SsdId,
    /// The product's barcode.
    pub barcode: Barcode,
    /// When the order was placed.
    // When it reached `status` is in the header `ce-time` of the event.
    pub timestamp: DateTime<Utc>,
    /// Units ordered.
    pub quantity: Quantity,
    /// The status that it has reached; on `orders.due`, the one that it reaches next.
    pub status: OrderStatus,
}

impl Order {
    /// The subject of placed orders.
    pub const PENDING: &'static str = "orders.pending";
    /// The subject of shipped orders.
    pub const SHIPPED: &'static str = "orders.shipped";
    /// The subject of completed orders.
    pub const COMPLETED: &'static str = "orders.completed";

    /// The same order in another status.
    #[must_use]
    pub fn with_status(&self, status: OrderStatus) -> Self {
        Self { status, ..self.clone() }
    }
}

impl Event for Order {
    fn subject(&self) -> &'static str {
        self.status.subject()
    }

    fn event_id(&self) -> String {
        format!("{}:{}", self.id, self.status)
    }
}

/// The wait of an order is over. The order has the status that it reaches next.
///
/// A message that JetStream publishes when a schedule fires reaches the stream's consumers, but not core NATS
/// subscribers (nats-server 2.15.1). So the schedule does not publish the order's next subject itself: it triggers the
/// notifications service, which does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OrderDue(pub Order);

impl OrderDue {
    /// The subject of this event.
    pub const SUBJECT: &'static str = "orders.due";
    /// The beginning of the subjects of the message schedules.
    pub const SCHEDULE_PREFIX: &'static str = "orders.timer.";
    /// The subjects of the message schedules, see [`OrderStatus::schedule_subject`].
    pub const SCHEDULES: &'static str = "orders.timer.*.*";
}

impl Event for OrderDue {
    fn subject(&self) -> &'static str {
        Self::SUBJECT
    }

    fn event_id(&self) -> String {
        format!("{}:due", self.0.event_id())
    }
}
