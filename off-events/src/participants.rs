//! The programs that exchange messages, and the subjects on which each of them publishes.
//!
//! `deploy/nats/users.conf` allows each program these subjects and no others; a test compares the two. The AsyncAPI
//! document derives its senders and receivers from this list and from [`streams::CONSUMERS`].
//!
//! [`streams::CONSUMERS`]: crate::streams::CONSUMERS

use crate::{
    LowBalance, ORDERS_NEW, ORDERS_RANDOM, Order, OrderDue, Revoked, ShipRequest, StockConsumed, StockLow,
    UserRegistered,
};

/// A program that publishes or receives messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Participant {
    /// Its name: for a service the name in logs, metrics and `ce-source`.
    pub name: &'static str,
    /// The subjects on which it publishes, beside the dead letters of its consumers.
    pub publishes: &'static [&'static str],
    /// The subjects to which it subscribes without a durable consumer.
    pub subscribes: &'static [&'static str],
    /// The subjects whose streams every replica reads and follows, without acknowledgements.
    pub follows: &'static [&'static str],
}

/// What a program that verifies access tokens follows.
const VERIFIES_TOKENS: &[&str] = &[Revoked::SUBJECT];

/// The users service.
pub const USERS: Participant = Participant {
    name: "users",
    publishes: &[UserRegistered::SUBJECT, StockLow::SUBJECT, ORDERS_NEW],
    subscribes: &[ORDERS_RANDOM],
    follows: VERIFIES_TOKENS,
};

/// The orders service. Recovery publishes the event of an overdue order again, whatever its status.
pub const ORDERS: Participant = Participant {
    name: "orders",
    publishes: &[
        Order::PENDING,
        Order::PAID,
        Order::REFUSED,
        Order::SHIPPED,
        Order::COMPLETED,
        Order::CANCELLED,
        ORDERS_NEW,
    ],
    subscribes: &[ORDERS_RANDOM, ShipRequest::SUBJECT],
    follows: VERIFIES_TOKENS,
};

/// The billing service.
pub const BILLING: Participant = Participant {
    name: "billing",
    publishes: &[Order::PAID, Order::REFUSED, LowBalance::SUBJECT],
    subscribes: &[],
    follows: VERIFIES_TOKENS,
};

/// The notifications service, which simulates the supplier and the delivery firm, and writes letters.
pub const NOTIFICATIONS: Participant = Participant {
    name: "notifications",
    publishes: &[Order::SHIPPED, Order::COMPLETED, OrderDue::SCHEDULES, ShipRequest::SUBJECT],
    subscribes: &[],
    follows: VERIFIES_TOKENS,
};

/// The generator simulates devices and has their permissions; it also requests random products.
pub const GENERATOR: Participant = Participant {
    name: "generator",
    publishes: &[StockConsumed::SUBJECT, ORDERS_RANDOM],
    subscribes: &[],
    follows: VERIFIES_TOKENS,
};

/// The auth service.
pub const AUTH: Participant =
    Participant { name: "auth", publishes: &[Revoked::SUBJECT], subscribes: &[], follows: VERIFIES_TOKENS };

/// The gateway, whose viewers see all events.
pub const GATEWAY: Participant = Participant {
    name: "gateway",
    publishes: &[],
    subscribes: &[],
    follows: &[
        Revoked::SUBJECT,
        Order::PENDING,
        Order::PAID,
        Order::SHIPPED,
        Order::COMPLETED,
        Order::REFUSED,
        Order::CANCELLED,
        StockConsumed::SUBJECT,
        StockLow::SUBJECT,
        UserRegistered::SUBJECT,
        LowBalance::SUBJECT,
    ],
};

/// A real device. Its user at the broker is not part of this project.
pub const DEVICE: Participant = Participant {
    name: "device",
    publishes: &[StockConsumed::SUBJECT],
    subscribes: &[StockLow::SUBJECT],
    follows: &[],
};

/// All programs that exchange messages.
pub const PARTICIPANTS: [Participant; 8] = [USERS, ORDERS, BILLING, NOTIFICATIONS, GENERATOR, AUTH, GATEWAY, DEVICE];
