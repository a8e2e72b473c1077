//! Streams and durable consumers. They are defined here and created by `off migrate`; services only use them.

use crate::{LowBalance, Order, OrderDue, Revoked, StockConsumed, StockLow, UserRegistered, participants};
use std::time::Duration;

/// The definition of a JetStream stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stream {
    /// Its name at the broker.
    pub name: &'static str,
    /// What it holds, as the broker shows it.
    pub description: &'static str,
    /// The subjects whose messages it stores.
    pub subjects: &'static [&'static str],
    /// Older messages are deleted. Acknowledged messages stay until then too, for inspection.
    pub max_age: Duration,
    /// The stream's maximum size, in percent of the total stream storage.
    pub share: u8,
    /// Whether a full stream rejects new messages (true) or discards the oldest (false).
    pub refuses_when_full: bool,
    /// Whether the stream accepts message schedules.
    pub keeps_schedules: bool,
}

/// The definition of a durable consumer of one subject, shared by all replicas of its service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Consumer {
    /// The name of its stream.
    pub stream: &'static str,
    /// Its name at the broker, and its label in metrics.
    pub name: &'static str,
    /// What it is for, as the broker shows it.
    pub description: &'static str,
    /// The subject whose messages it receives.
    pub subject: &'static str,
    /// The name of the service that handles its messages.
    pub service: &'static str,
    /// Whether devices publish its messages. Invalid messages from devices are counted and dropped: if they became dead
    /// letters, any device could fill that stream.
    pub is_from_devices: bool,
    /// How long the next batch may fill after one that emptied the backlog. A batch costs almost the same for one message
    /// as for many. A message that arrives after a pause is handled at once.
    pub linger: Duration,
}

impl Consumer {
    /// The subject of the dead letters of this consumer.
    pub fn dead_subject(&self) -> String {
        format!("{DEAD_LETTER_PREFIX}{}.{}", self.stream, self.name)
    }
}

/// The linger of consumers for whose effect somebody waits.
const SHORT_LINGER: Duration = Duration::from_millis(10);

/// The linger of all other consumers: letters, and the revenue of completed orders.
const LONG_LINGER: Duration = Duration::from_millis(100);

/// The beginning of the subjects of dead letters and of records about them.
pub const DEAD_LETTER_PREFIX: &str = "dead.";

/// The subject on which `off dead` records that an operator dropped a dead letter, with the reason.
pub const DEAD_LETTER_DROPPED: &str = "dead.dropped";

/// The subjects of all dead letters, see [`Consumer::dead_subject`].
pub const ALL_DEAD_LETTERS: &str = "dead.*.*";

/// The maximum wait of a message schedule: one day less than the `max_age` of its stream, because JetStream deletes a
/// schedule that is older than `max_age` before it fires.
pub const LONGEST_WAIT: Duration = Duration::from_hours(6 * 24);

/// Status changes of orders, and their waits.
pub const ORDERS: Stream = Stream {
    name: "ORDERS",
    description: "Status changes of orders, and the schedules of the waits between them",
    subjects: &[
        Order::PENDING,
        Order::PAID,
        Order::SHIPPED,
        Order::COMPLETED,
        Order::REFUSED,
        Order::CANCELLED,
        OrderDue::SCHEDULES,
        OrderDue::SUBJECT,
    ],
    max_age: Duration::from_hours(7 * 24),
    share: 70,
    // JetStream supports no schedules in a stream that rejects new messages.
    refuses_when_full: false,
    keeps_schedules: true,
};

/// Registrations and low balances.
pub const USERS: Stream = Stream {
    name: "USERS",
    description: "Registrations of people and their devices, and low balances",
    subjects: &["users.>"],
    max_age: Duration::from_hours(7 * 24),
    share: 5,
    refuses_when_full: false,
    keeps_schedules: false,
};

/// Consumption and low products.
pub const STOCK: Stream = Stream {
    name: "STOCK",
    description: "Consumption from shelves, and products that are low",
    subjects: &[StockConsumed::SUBJECT, StockLow::SUBJECT],
    max_age: Duration::from_hours(7 * 24),
    share: 23,
    refuses_when_full: false,
    keeps_schedules: false,
};

/// Revoked sessions and keys. A message is kept longer than the longest token is valid.
pub const AUTH: Stream = Stream {
    name: "AUTH",
    description: "Sessions and keys that ended before their tokens expire",
    subjects: &[Revoked::SUBJECT],
    max_age: Duration::from_mins(15),
    share: 1,
    refuses_when_full: false,
    keeps_schedules: false,
};

/// Rejects new messages when full, because the first dead letters of a fault are the most informative. Rejected dead
/// letters are logged and counted.
pub const DEAD_LETTERS: Stream = Stream {
    name: "DEAD_LETTERS",
    description: "Messages that no handler could process, each with the reason",
    subjects: &["dead.>"],
    max_age: Duration::from_hours(90 * 24),
    share: 1,
    refuses_when_full: true,
    keeps_schedules: false,
};

/// Opens accounts in the billing service.
pub const BILLING_REGISTERED: Consumer = Consumer {
    stream: USERS.name,
    name: "billing-registered",
    description: "Opens accounts of registered people",
    subject: UserRegistered::SUBJECT,
    service: participants::BILLING.name,
    is_from_devices: false,
    linger: SHORT_LINGER,
};

/// Charges orders in the billing service.
pub const BILLING_PENDING: Consumer = Consumer {
    stream: ORDERS.name,
    name: "billing-pending",
    description: "Charges pending orders",
    subject: Order::PENDING,
    service: participants::BILLING.name,
    is_from_devices: false,
    linger: SHORT_LINGER,
};

/// Books the revenue of completed orders in the billing service.
pub const BILLING_COMPLETED: Consumer = Consumer {
    stream: ORDERS.name,
    name: "billing-completed",
    description: "Books the revenue of completed orders",
    subject: Order::COMPLETED,
    service: participants::BILLING.name,
    is_from_devices: false,
    linger: LONG_LINGER,
};

/// Refunds cancelled orders in the billing service.
pub const BILLING_CANCELLED: Consumer = Consumer {
    stream: ORDERS.name,
    name: "billing-cancelled",
    description: "Refunds cancelled orders",
    subject: Order::CANCELLED,
    service: participants::BILLING.name,
    is_from_devices: false,
    linger: SHORT_LINGER,
};

/// The supplier.
pub const SUPPLIER: Consumer = Consumer {
    stream: ORDERS.name,
    name: "supplier",
    description: "The supplier receives paid orders",
    subject: Order::PAID,
    service: participants::NOTIFICATIONS.name,
    is_from_devices: false,
    linger: SHORT_LINGER,
};

/// The delivery firm.
pub const DELIVERY: Consumer = Consumer {
    stream: ORDERS.name,
    name: "delivery",
    description: "The delivery firm receives shipped orders",
    subject: Order::SHIPPED,
    service: participants::NOTIFICATIONS.name,
    is_from_devices: false,
    linger: SHORT_LINGER,
};

/// Ends the waits of the supplier and the delivery firm.
pub const DUE: Consumer = Consumer {
    stream: ORDERS.name,
    name: "due",
    description: "Announces orders whose wait is over",
    subject: OrderDue::SUBJECT,
    service: participants::NOTIFICATIONS.name,
    is_from_devices: false,
    linger: SHORT_LINGER,
};

/// Writes the welcome letters in the notifications service.
pub const LETTERS_REGISTERED: Consumer = Consumer {
    stream: USERS.name,
    name: "letters-registered",
    description: "Writes welcome letters to registered people",
    subject: UserRegistered::SUBJECT,
    service: participants::NOTIFICATIONS.name,
    is_from_devices: false,
    linger: LONG_LINGER,
};

/// Writes letters about low balances in the notifications service.
pub const LETTERS_LOW_BALANCE: Consumer = Consumer {
    stream: USERS.name,
    name: "letters-low-balance",
    description: "Writes letters about low balances",
    subject: LowBalance::SUBJECT,
    service: participants::NOTIFICATIONS.name,
    is_from_devices: false,
    linger: LONG_LINGER,
};

/// Writes letters about paid orders in the notifications service.
pub const LETTERS_PAID: Consumer = Consumer {
    stream: ORDERS.name,
    name: "letters-paid",
    description: "Writes letters about paid orders",
    subject: Order::PAID,
    service: participants::NOTIFICATIONS.name,
    is_from_devices: false,
    linger: LONG_LINGER,
};

/// Writes letters about refused orders in the notifications service.
pub const LETTERS_REFUSED: Consumer = Consumer {
    stream: ORDERS.name,
    name: "letters-refused",
    description: "Writes letters about refused orders",
    subject: Order::REFUSED,
    service: participants::NOTIFICATIONS.name,
    is_from_devices: false,
    linger: LONG_LINGER,
};

/// Writes letters about cancelled orders in the notifications service.
pub const LETTERS_CANCELLED: Consumer = Consumer {
    stream: ORDERS.name,
    name: "letters-cancelled",
    description: "Writes letters about cancelled orders",
    subject: Order::CANCELLED,
    service: participants::NOTIFICATIONS.name,
    is_from_devices: false,
    linger: LONG_LINGER,
};

/// Writes letters about delivered orders in the notifications service.
pub const LETTERS_COMPLETED: Consumer = Consumer {
    stream: ORDERS.name,
    name: "letters-completed",
    description: "Writes letters about delivered orders",
    subject: Order::COMPLETED,
    service: participants::NOTIFICATIONS.name,
    is_from_devices: false,
    linger: LONG_LINGER,
};

/// Records `paid` in the orders service.
pub const ORDERS_PAID: Consumer = Consumer {
    stream: ORDERS.name,
    name: "orders-paid",
    description: "Records paid orders",
    subject: Order::PAID,
    service: participants::ORDERS.name,
    is_from_devices: false,
    linger: SHORT_LINGER,
};

/// Records `refused` in the orders service.
pub const ORDERS_REFUSED: Consumer = Consumer {
    stream: ORDERS.name,
    name: "orders-refused",
    description: "Records refused orders",
    subject: Order::REFUSED,
    service: participants::ORDERS.name,
    is_from_devices: false,
    linger: SHORT_LINGER,
};

/// Records `completed` in the orders service.
pub const ORDERS_COMPLETED: Consumer = Consumer {
    stream: ORDERS.name,
    name: "orders-completed",
    description: "Records completed orders",
    subject: Order::COMPLETED,
    service: participants::ORDERS.name,
    is_from_devices: false,
    linger: SHORT_LINGER,
};

/// Adds deliveries to shelves in the users service.
pub const SHELVES_DELIVERED: Consumer = Consumer {
    stream: ORDERS.name,
    name: "shelves-delivered",
    description: "Adds delivered units to shelves",
    subject: Order::COMPLETED,
    service: participants::USERS.name,
    is_from_devices: false,
    linger: SHORT_LINGER,
};

/// Lets devices order again, in the users service.
pub const SHELVES_REFUSED: Consumer = Consumer {
    stream: ORDERS.name,
    name: "shelves-refused",
    description: "Schedules another reminder for the product of a refused order",
    subject: Order::REFUSED,
    service: participants::USERS.name,
    is_from_devices: false,
    linger: SHORT_LINGER,
};

/// Lets devices order again, in the users service.
pub const SHELVES_CANCELLED: Consumer = Consumer {
    stream: ORDERS.name,
    name: "shelves-cancelled",
    description: "Schedules another reminder for the product of a cancelled order",
    subject: Order::CANCELLED,
    service: participants::USERS.name,
    is_from_devices: false,
    linger: SHORT_LINGER,
};

/// Takes consumption from shelves in the users service.
pub const SHELVES_CONSUMED: Consumer = Consumer {
    stream: STOCK.name,
    name: "shelves-consumed",
    description: "Subtracts consumed units from shelves",
    subject: StockConsumed::SUBJECT,
    service: participants::USERS.name,
    is_from_devices: true,
    linger: SHORT_LINGER,
};

/// The simulated devices of the generator.
pub const DEVICES_LOW: Consumer = Consumer {
    stream: STOCK.name,
    name: "devices-low",
    description: "The simulated devices reorder products that are low",
    subject: StockLow::SUBJECT,
    service: participants::GENERATOR.name,
    is_from_devices: false,
    linger: SHORT_LINGER,
};

/// All streams.
pub static STREAMS: [Stream; 5] = [ORDERS, USERS, STOCK, AUTH, DEAD_LETTERS];

// The shares add up to 100 percent.
const _: () = assert!(ORDERS.share + USERS.share + STOCK.share + AUTH.share + DEAD_LETTERS.share == 100);

/// All consumers.
pub const CONSUMERS: [Consumer; 21] = [
    BILLING_REGISTERED,
    BILLING_PENDING,
    BILLING_COMPLETED,
    BILLING_CANCELLED,
    SUPPLIER,
    DUE,
    DELIVERY,
    LETTERS_REGISTERED,
    LETTERS_LOW_BALANCE,
    LETTERS_PAID,
    LETTERS_REFUSED,
    LETTERS_CANCELLED,
    LETTERS_COMPLETED,
    ORDERS_PAID,
    ORDERS_REFUSED,
    ORDERS_COMPLETED,
    SHELVES_DELIVERED,
    SHELVES_REFUSED,
    SHELVES_CANCELLED,
    SHELVES_CONSUMED,
    DEVICES_LOW,
];

/// The consumers that move orders forward.
pub const ORDER_CONSUMERS: [Consumer; 10] = [
    BILLING_PENDING,
    BILLING_COMPLETED,
    BILLING_CANCELLED,
    SUPPLIER,
    DUE,
    DELIVERY,
    ORDERS_PAID,
    ORDERS_REFUSED,
    ORDERS_COMPLETED,
    SHELVES_DELIVERED,
];

/// The stream that stores `subject`, which is given as it is declared, with its wildcards; `None` for core NATS
/// subjects.
pub fn stream_of(subject: &str) -> Option<&'static Stream> {
    STREAMS.iter().find(|stream| stream.subjects.iter().any(|pattern| is_match(pattern, subject)))
}

/// Whether `pattern` is `subject`, or its prefix followed by `>`.
fn is_match(pattern: &str, subject: &str) -> bool {
    pattern == subject || pattern.strip_suffix('>').is_some_and(|prefix| subject.starts_with(prefix))
}
