//! The programs that exchange messages, and the subjects on which each of them publishes.
//!
//! `deploy/nats/users.conf` allows each program these subjects and no others; a test compares the two. The AsyncAPI
//! document derives its senders and receivers from this list and from [`streams::CONSUMERS`].
//!
//! [`streams::CONSUMERS`]: crate::streams::CONSUMERS

use crate::{ORDERS_NEW, ORDERS_RANDOM, Order, OrderDue, StockConsumed, StockLow, UserRegistered};

/// A program that publishes or receives messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Participant {
    /// Its name: for a service the name in logs, metrics and `ce-source`.
    pub name: &'static str,
    /// The subjects on which it publishes, beside the dead letters of its consumers.
    pub publishes: &'static [&'static str],
    /// The subjects to which it subscribes without a durable consumer.
    pub subscribes: &'static [&'static str],
}

/// The users service.
pub const USERS: Participant = Participant {
    name: "users",
    publishes: &[UserRegistered::SUBJECT, StockLow::SUBJECT, ORDERS_NEW],
    subscribes: &[ORDERS_RANDOM],
};

/// The orders service. Recovery publishes the event of an overdue order again, whatever its status.
pub const ORDERS: Participant = Participant {
    name: "orders",
    publishes: &[Order::PENDING, Order::SHIPPED, Order::COMPLETED, ORDERS_NEW],
    subscribes: &[ORDERS_RANDOM],
};

/// The notifications service, which simulates the supplier and the delivery firm.
pub const NOTIFICATIONS: Participant = Participant {
    name: "notifications",
    publishes: &[Order::SHIPPED, Order::COMPLETED, OrderDue::SCHEDULES],
    subscribes: &[],
};

/// The generator simulates devices and has their permissions; it also requests random products.
pub const GENERATOR: Participant =
    Participant { name: "generator", publishes: &[StockConsumed::SUBJECT, ORDERS_RANDOM], subscribes: &[] };

/// A real device. Its user at the broker is not part of this project.
pub const DEVICE: Participant =
    Participant { name: "device", publishes: &[StockConsumed::SUBJECT], subscribes: &[StockLow::SUBJECT] };

/// All programs that exchange messages.
pub const PARTICIPANTS: [Participant; 5] = [USERS, ORDERS, NOTIFICATIONS, GENERATOR, DEVICE];
