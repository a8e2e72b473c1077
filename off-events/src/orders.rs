//! Orders and their states.

use crate::{Barcode, Event, InvalidValue, OrderId, Quantity, SsdId};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};
use utoipa::ToSchema;

/// How far an order has come; it only ever moves forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum OrderStatus {
    /// Stored; the supplier has it.
    Pending,
    /// It left the supplier; the delivery firm has it.
    Shipped,
    /// It arrived and is on the shelf.
    Completed,
}

impl OrderStatus {
    pub const ALL: [Self; 3] = [Self::Pending, Self::Shipped, Self::Completed];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Shipped => "shipped",
            Self::Completed => "completed",
        }
    }

    /// The state that follows; `None` after the last.
    pub fn next(self) -> Option<Self> {
        match self {
            Self::Pending => Some(Self::Shipped),
            Self::Shipped => Some(Self::Completed),
            Self::Completed => None,
        }
    }

    /// The subject on which an order in this state is announced.
    pub const fn subject(self) -> &'static str {
        match self {
            Self::Pending => Order::PENDING,
            Self::Shipped => Order::SHIPPED,
            Self::Completed => Order::COMPLETED,
        }
    }

    /// The subject on which the wait for this state is kept, one per order: a message schedule in the stream, which
    /// becomes an [`OrderDue`] in the end.
    pub fn timer_subject(self, order: OrderId) -> String {
        format!("orders.timer.{}.{order}", self.as_str())
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

/// An order as it travels and as the API shows it. On the wire its subject says the same as its `status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Order {
    pub id: OrderId,
    /// The device whose shelf the products are for.
    pub ssd_id: SsdId,
    /// The product's barcode.
    pub product_id: Barcode,
    /// When the order was placed.
    pub timestamp: DateTime<Utc>,
    pub quantity: Quantity,
    pub status: OrderStatus,
}

impl Order {
    pub const PENDING: &'static str = "orders.pending";
    pub const SHIPPED: &'static str = "orders.shipped";
    pub const COMPLETED: &'static str = "orders.completed";

    /// The same order in another state.
    #[must_use]
    pub fn with_status(&self, status: OrderStatus) -> Self {
        Self { status, ..self.clone() }
    }
}

impl Event for Order {
    fn subject(&self) -> &'static str {
        self.status.subject()
    }

    fn message_id(&self) -> String {
        format!("{}:{}", self.id, self.status)
    }
}

/// The wait of an order is over; the order is in the state that is to be announced now.
///
/// What JetStream puts into a stream when a schedule fires is heard by the stream's consumers and by nobody who merely
/// subscribes (nats-server 2.15.1). So a schedule does not speak for the supplier: it tells them that it is time to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OrderDue(pub Order);

impl OrderDue {
    pub const SUBJECT: &'static str = "orders.due";
}

impl Event for OrderDue {
    fn subject(&self) -> &'static str {
        Self::SUBJECT
    }

    fn message_id(&self) -> String {
        format!("{}:due", self.0.message_id())
    }
}
