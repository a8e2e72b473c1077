//! An event as viewers get it.

use async_nats::{HeaderValue, jetstream::Message};
use chrono::{DateTime, Utc};
use off_events::{
    Barcode, LowBalance, Money, Order, OrderId, Quantity, SsdId, StockConsumed, StockLow, UserId, UserRegistered,
    headers::{ANNOUNCED_AGAIN, CE_ID, CE_SOURCE, CE_TIME},
    participants::ORDERS,
};
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

/// The streams that are followed, in the order in which a [`super::Cursor`] has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    Orders,
    Stock,
    Users,
}

impl Source {
    pub(super) const ALL: [Self; 3] = [Self::Orders, Self::Stock, Self::Users];

    pub(super) const fn stream(self) -> &'static str {
        match self {
            Self::Orders => off_events::streams::ORDERS.name,
            Self::Stock => off_events::streams::STOCK.name,
            Self::Users => off_events::streams::USERS.name,
        }
    }

    pub(super) const fn subjects(self) -> &'static [&'static str] {
        match self {
            Self::Orders => {
                &[Order::PENDING, Order::PAID, Order::SHIPPED, Order::COMPLETED, Order::REFUSED, Order::CANCELLED]
            }
            Self::Stock => &[StockConsumed::SUBJECT, StockLow::SUBJECT],
            Self::Users => &[UserRegistered::SUBJECT, LowBalance::SUBJECT],
        }
    }
}

/// An event of a stream.
#[derive(Debug, Clone)]
pub(crate) struct LiveEvent {
    pub(super) source: Source,
    pub(super) sequence: u64,
    pub(crate) subject: &'static str,
    /// When the broker stored it: later than it happened if its publisher, or a wait, was late.
    pub(super) stored_at: DateTime<Utc>,
    /// Whether it was published before: the order was overdue, and recovery announced its status again.
    pub(super) is_repeated: bool,
    pub(super) order: Option<OrderId>,
    pub(super) person: Option<UserId>,
    pub(super) device: Option<SsdId>,
    /// When the order of the event was placed.
    pub(super) placed_at: Option<DateTime<Utc>>,
    pub(crate) public: PublicEvent,
    /// The event as JSON, for those who may see all of it.
    pub(super) json: Box<str>,
}

/// What everybody may see of an event: nothing that tells whose it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct PublicEvent {
    #[schema(example = json!(Order::PAID))]
    pub(crate) subject: &'static str,
    /// When it happened.
    pub(crate) at: DateTime<Utc>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "2000000000015")]
    pub(crate) barcode: Option<Barcode>,
    /// The name of the product, if it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<i64>)]
    pub(crate) quantity: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) total: Option<Money>,
}

/// An event with its payload.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct WholeEvent<'a> {
    #[schema(example = json!(Order::PAID))]
    subject: &'static str,
    /// The event id, which the event has each time it is published.
    #[schema(example = "01890a5d-ac96-774b-bcce-b302099a8057:paid")]
    event_id: &'a str,
    /// When it happened.
    at: DateTime<Utc>,
    /// The payload of the event, see the AsyncAPI document.
    #[schema(value_type = Object)]
    data: &'a RawValue,
}

/// The parts of all payloads by which events are found.
#[derive(Debug, Default)]
struct Parts {
    order: Option<OrderId>,
    person: Option<UserId>,
    device: Option<SsdId>,
    placed_at: Option<DateTime<Utc>>,
    barcode: Option<Barcode>,
    quantity: Option<i32>,
    total: Option<Money>,
}

impl Parts {
    fn of(subject: &str, payload: &[u8]) -> serde_json::Result<Self> {
        Ok(match subject {
            StockConsumed::SUBJECT => Self::of_consumed(serde_json::from_slice(payload)?),
            StockLow::SUBJECT => Self::of_low(serde_json::from_slice(payload)?),
            UserRegistered::SUBJECT => {
                let person: UserRegistered = serde_json::from_slice(payload)?;
                Self { person: Some(person.id), ..Self::default() }
            }
            LowBalance::SUBJECT => {
                let low: LowBalance = serde_json::from_slice(payload)?;
                Self { person: Some(low.user_id), ..Self::default() }
            }
            _ => Self::of_order(serde_json::from_slice(payload)?),
        })
    }

    fn of_order(order: Order) -> Self {
        Self {
            order: Some(order.id),
            person: Some(order.user_id),
            device: Some(order.ssd_id),
            placed_at: Some(order.timestamp),
            barcode: Some(order.barcode),
            quantity: Some(order.quantity.get()),
            total: Some(order.total),
        }
    }

    fn of_consumed(consumed: StockConsumed) -> Self {
        let StockConsumed { ssd_id, barcode, quantity, .. } = consumed;
        let quantity = Quantity::get(quantity);
        Self { device: Some(ssd_id), barcode: Some(barcode), quantity: Some(quantity), ..Self::default() }
    }

    fn of_low(low: StockLow) -> Self {
        let StockLow { ssd_id, barcode, quantity, .. } = low;
        Self { device: Some(ssd_id), barcode: Some(barcode), quantity: Some(quantity), ..Self::default() }
    }
}

impl LiveEvent {
    /// The event in a message; `None` if it is not readable, or not of this source.
    pub(super) fn of(source: Source, message: &Message) -> Option<Self> {
        let info = message.info().ok()?;
        let subject = source.subjects().iter().copied().find(|subject| *subject == message.subject.as_str())?;
        let header = |name| message.headers.as_ref().and_then(|headers| headers.get(name)).map(HeaderValue::as_str);
        let nanos = i64::try_from(info.published.unix_timestamp_nanos()).unwrap_or_default();
        let stored_at = DateTime::from_timestamp_nanos(nanos);
        let at = header(CE_TIME).and_then(|time| time.parse().ok()).unwrap_or(stored_at);
        // What follows from an announcement has the header, too, and other publishers.
        let is_repeated = header(ANNOUNCED_AGAIN).is_some()
            && header(CE_SOURCE).and_then(|source| source.strip_prefix('/')) == Some(ORDERS.name);
        let parts = Parts::of(subject, &message.payload).ok()?;
        let data: &RawValue = serde_json::from_slice(&message.payload).ok()?;
        let event_id = header(CE_ID).unwrap_or_default();
        let json = serde_json::to_string(&WholeEvent { subject, event_id, at, data }).ok()?;
        let Parts { order, person, device, placed_at, barcode, quantity, total } = parts;
        let public = PublicEvent { subject, at, barcode, name: None, quantity, total };
        let sequence = info.stream_sequence;
        Some(Self {
            source,
            sequence,
            subject,
            stored_at,
            is_repeated,
            order,
            person,
            device,
            placed_at,
            public,
            json: json.into(),
        })
    }
}

/// The subjects by which rates are counted.
pub(super) fn subjects() -> impl Iterator<Item = &'static str> {
    Source::ALL.into_iter().flat_map(|source| source.subjects().iter().copied())
}
