//! Streams and durable consumers: declared here, made by `off migrate`, only used by the services.

use crate::{Order, OrderDue, StockConsumed, StockLow, UserRegistered};
use std::time::Duration;

/// A JetStream stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stream {
    pub name: &'static str,
    pub description: &'static str,
    pub subjects: &'static [&'static str],
    /// What is older is forgotten. Every stream keeps what was acknowledged until then, for people to look at.
    pub max_age: Duration,
    /// The most the stream may hold, in hundredths of the room that all have together.
    pub share: u8,
    /// Whether a full stream refuses the new (true) or forgets the old (false).
    pub refuses_when_full: bool,
    /// Whether a message may wait in it for a time to come.
    pub keeps_schedules: bool,
}

/// A durable consumer of one subject, shared by all replicas of the service that uses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Consumer {
    pub stream: &'static str,
    pub name: &'static str,
    pub description: &'static str,
    pub subject: &'static str,
    /// Whether devices publish what it reads. What they send and nobody can use is counted and dropped: were it kept among
    /// the dead letters, any device could fill them.
    pub is_from_devices: bool,
}

impl Consumer {
    /// Where the messages go that this consumer could not handle.
    pub fn dead_subject(&self) -> String {
        format!("dead.{}.{}", self.stream, self.name)
    }
}

/// The longest a message schedule may wait: one day less than the stream that keeps it, because a schedule older than
/// the stream's `max_age` would be deleted unfired.
pub const LONGEST_WAIT: Duration = Duration::from_hours(6 * 24);

pub const ORDERS: Stream = Stream {
    name: "ORDERS",
    description: "Every step of every order, and the waits between the steps",
    subjects: &[Order::PENDING, Order::SHIPPED, Order::COMPLETED, "orders.timer.*.*", OrderDue::SUBJECT],
    max_age: Duration::from_hours(7 * 24),
    share: 70,
    // JetStream keeps no schedules in a stream that refuses the new.
    refuses_when_full: false,
    keeps_schedules: true,
};

pub const USERS: Stream = Stream {
    name: "USERS",
    description: "People and their devices",
    subjects: &["users.>"],
    max_age: Duration::from_hours(7 * 24),
    share: 5,
    refuses_when_full: false,
    keeps_schedules: false,
};

pub const STOCK: Stream = Stream {
    name: "STOCK",
    description: "What is taken off the shelves, and what runs low",
    subjects: &[StockConsumed::SUBJECT, StockLow::SUBJECT],
    max_age: Duration::from_hours(7 * 24),
    share: 24,
    refuses_when_full: false,
    keeps_schedules: false,
};

/// Refuses when full: the first letters of a fault tell most about it. What is refused is logged and counted.
pub const DEAD_LETTERS: Stream = Stream {
    name: "DEAD_LETTERS",
    description: "Messages that could not be handled, each with the reason",
    subjects: &["dead.>"],
    max_age: Duration::from_hours(90 * 24),
    share: 1,
    refuses_when_full: true,
    keeps_schedules: false,
};

pub const SUPPLIER: Consumer = Consumer {
    stream: ORDERS.name,
    name: "supplier",
    description: "The supplier takes pending orders",
    subject: Order::PENDING,
    is_from_devices: false,
};

pub const DELIVERY: Consumer = Consumer {
    stream: ORDERS.name,
    name: "delivery",
    description: "The delivery firm takes shipped orders",
    subject: Order::SHIPPED,
    is_from_devices: false,
};

pub const DUE: Consumer = Consumer {
    stream: ORDERS.name,
    name: "due",
    description: "The supplier and the delivery firm say what was due",
    subject: OrderDue::SUBJECT,
    is_from_devices: false,
};

pub const ORDERS_SHIPPED: Consumer = Consumer {
    stream: ORDERS.name,
    name: "orders-shipped",
    description: "The orders service notes what was shipped",
    subject: Order::SHIPPED,
    is_from_devices: false,
};

pub const ORDERS_COMPLETED: Consumer = Consumer {
    stream: ORDERS.name,
    name: "orders-completed",
    description: "The orders service notes what arrived",
    subject: Order::COMPLETED,
    is_from_devices: false,
};

pub const SHELVES_DELIVERED: Consumer = Consumer {
    stream: ORDERS.name,
    name: "shelves-delivered",
    description: "The users service puts what arrived on the shelf",
    subject: Order::COMPLETED,
    is_from_devices: false,
};

pub const SHELVES_CONSUMED: Consumer = Consumer {
    stream: STOCK.name,
    name: "shelves-consumed",
    description: "The users service takes what was eaten off the shelf",
    subject: StockConsumed::SUBJECT,
    is_from_devices: true,
};

pub const DEVICES_LOW: Consumer = Consumer {
    stream: STOCK.name,
    name: "devices-low",
    description: "The generator's devices hear that something runs low",
    subject: StockLow::SUBJECT,
    is_from_devices: false,
};

pub const STREAMS: [Stream; 4] = [ORDERS, USERS, STOCK, DEAD_LETTERS];

// All the room is given away, and none of it twice.
const _: () = assert!(ORDERS.share + USERS.share + STOCK.share + DEAD_LETTERS.share == 100);

pub const CONSUMERS: [Consumer; 8] =
    [SUPPLIER, DUE, DELIVERY, ORDERS_SHIPPED, ORDERS_COMPLETED, SHELVES_DELIVERED, SHELVES_CONSUMED, DEVICES_LOW];

/// Everyone who moves orders on; who says something stands before those who hear it.
pub const ORDER_CONSUMERS: [Consumer; 6] =
    [SUPPLIER, DUE, DELIVERY, ORDERS_SHIPPED, ORDERS_COMPLETED, SHELVES_DELIVERED];

/// The stream that keeps `subject`, if one does.
pub fn stream_of(subject: &str) -> Option<&'static Stream> {
    match subject {
        Order::PENDING | Order::SHIPPED | Order::COMPLETED | OrderDue::SUBJECT => Some(&ORDERS),
        StockConsumed::SUBJECT | StockLow::SUBJECT => Some(&STOCK),
        UserRegistered::SUBJECT => Some(&USERS),
        _ => None,
    }
}
