//! Orders and their statuses.

use crate::{Barcode, Event, InvalidValue, Money, OrderId, Quantity, SsdId, UserId};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};
use utoipa::ToSchema;

/// The status of an order.
///
/// `pending → paid → shipped → completed`; `refused` ends a pending order, `cancelled` a pending or paid one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum OrderStatus {
    /// The order is stored; the billing service charges it.
    Pending,
    /// The order is paid; the supplier handles it.
    Paid,
    /// The order left the supplier; the delivery firm handles it.
    Shipped,
    /// The order arrived. The users service then adds its units to the shelf, which makes it delivered.
    Completed,
    /// The account could not pay for the order. This is final.
    Refused,
    /// The order was cancelled before it was shipped, and is refunded if it was paid. This is final.
    Cancelled,
}

impl OrderStatus {
    /// All statuses: first those of a delivered order, in the order in which it reaches them.
    pub const ALL: [Self; 6] =
        [Self::Pending, Self::Paid, Self::Shipped, Self::Completed, Self::Refused, Self::Cancelled];

    /// Its name in payloads, in SQL and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Paid => "paid",
            Self::Shipped => "shipped",
            Self::Completed => "completed",
            Self::Refused => "refused",
            Self::Cancelled => "cancelled",
        }
    }

    /// The subject on which an order in this status is published.
    pub const fn subject(self) -> &'static str {
        match self {
            Self::Pending => Order::PENDING,
            Self::Paid => Order::PAID,
            Self::Shipped => Order::SHIPPED,
            Self::Completed => Order::COMPLETED,
            Self::Refused => Order::REFUSED,
            Self::Cancelled => Order::CANCELLED,
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
        const UNKNOWN: InvalidValue =
            InvalidValue("an order is pending, paid, shipped, completed, refused or cancelled");
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
    /// The person who owns the device, and whose account pays.
    pub user_id: UserId,
    /// The product's barcode.
    pub barcode: Barcode,
    /// When the order was placed.
    // When it reached `status` is in the header `ce-time` of the event.
    pub timestamp: DateTime<Utc>,
    /// Units ordered.
    pub quantity: Quantity,
    /// The price of a unit when the order was placed.
    pub unit_price: Money,
    /// The price of the order: that of its units.
    pub total: Money,
    /// The status that it has reached; on `orders.due`, the one that it reaches next.
    pub status: OrderStatus,
    /// Why it was refused; only of a refused order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<Refusal>,
}

/// Why an order was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum Refusal {
    /// The account had less money than the order costs.
    InsufficientFunds {
        /// How much was missing.
        missing: Money,
    },
}

impl Order {
    /// The subject of placed orders.
    pub const PENDING: &'static str = "orders.pending";
    /// The subject of orders that were paid.
    pub const PAID: &'static str = "orders.paid";
    /// The subject of orders that could not be paid.
    pub const REFUSED: &'static str = "orders.refused";
    /// The subject of orders that were cancelled.
    pub const CANCELLED: &'static str = "orders.cancelled";
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

/// The request of the notifications service to ship orders whose supplier's wait is over. The orders service moves those
/// that may leave to `shipped`, and answers with a [`ShipReply`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ShipRequest {
    /// The orders, at most 500.
    pub orders: Vec<ReadyToShip>,
}

impl ShipRequest {
    /// The subject of these requests, on core NATS.
    pub const SUBJECT: &'static str = "orders.ship";
}

/// An order that is ready to leave the supplier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReadyToShip {
    /// The order.
    pub id: OrderId,
    /// When it was ready.
    pub at: DateTime<Utc>,
}

/// The response to a [`ShipRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ShipReply {
    /// The orders of the request that are shipped, by this request or an earlier one. The others may not leave.
    pub shipped: Vec<OrderId>,
}
