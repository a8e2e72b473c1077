//! Reads the contents of the broker.

use super::{
    finding::{Check, Finding},
    snapshot::Snapshot,
    store::{self, Event, MOST, Terms, WrongEvent},
};
use anyhow::Context;
use async_nats::jetstream::Message;
use off_events::{
    Order, OrderStatus, headers,
    streams::{self, CONSUMERS, STREAMS},
};
use off_kit::{Bus, bus::Content};
use serde::Serialize;
use std::collections::BTreeMap;
use uuid::Uuid;

/// The contents of all streams and the backlogs of all consumers.
#[derive(Debug, Clone, Serialize)]
pub struct BrokerContents {
    /// All streams.
    pub streams: Vec<StreamContents>,
    /// All consumers.
    pub consumers: Vec<ConsumerContents>,
    /// Orders whose wait for the supplier is a message schedule.
    pub waiting_for_supplier: u64,
    /// Orders whose wait for the delivery is a message schedule.
    pub waiting_for_delivery: u64,
    /// Dead letters, without the records of those that were dropped.
    pub dead_letters: u64,
}

/// What a stream has.
#[derive(Debug, Clone, Serialize)]
pub struct StreamContents {
    /// Its name.
    pub name: &'static str,
    /// Its messages.
    pub messages: u64,
    /// Their size.
    pub bytes: u64,
    /// The sequence number of the newest message.
    pub last_sequence: u64,
}

/// The backlog of a consumer.
#[derive(Debug, Clone, Serialize)]
pub struct ConsumerContents {
    /// Its name.
    pub name: &'static str,
    /// Messages that were not delivered yet.
    pub pending: u64,
    /// Messages that were delivered and not acknowledged yet.
    pub unacknowledged: u64,
}

impl BrokerContents {
    pub(super) async fn read(bus: &Bus) -> anyhow::Result<Self> {
        let mut contents = Self {
            streams: Vec::new(),
            consumers: Vec::new(),
            waiting_for_supplier: count_waits(bus, OrderStatus::Shipped).await?,
            waiting_for_delivery: count_waits(bus, OrderStatus::Completed).await?,
            dead_letters: bus.count(streams::DEAD_LETTERS.name, streams::ALL_DEAD_LETTERS).await?,
        };
        for stream in STREAMS {
            let found = bus.jetstream.get_stream(stream.name).await;
            let found = found.with_context(|| format!("cannot read stream {}", stream.name))?;
            let state = &found.cached_info().state;
            contents.streams.push(StreamContents {
                name: stream.name,
                messages: state.messages,
                bytes: state.bytes,
                last_sequence: state.last_sequence,
            });
        }
        for consumer in CONSUMERS {
            let waiting = bus.backlog(&consumer).await?;
            contents.consumers.push(ConsumerContents {
                name: consumer.name,
                pending: waiting.pending,
                unacknowledged: waiting.unacknowledged,
            });
        }
        Ok(contents)
    }
}

async fn count_waits(bus: &Bus, next: OrderStatus) -> anyhow::Result<u64> {
    bus.count(streams::ORDERS.name, &next.schedule_subjects()).await
}

/// Orders that were published, so they were stored, but are missing in Postgres: it was rolled back to an older state. Also
/// orders that were published with other terms than they have. Reads the stream page by page; it holds the events of the
/// last days.
pub(super) async fn wrong_events(snapshot: &mut Snapshot, bus: &Bus) -> anyhow::Result<Vec<Finding>> {
    // An order may have several events.
    let mut wrong = BTreeMap::new();
    let mut pages = bus.pages(streams::ORDERS.name, Order::PENDING, 1, Content::Whole).await?;
    let mut next = pages.next().await?;
    while let Some(page) = next {
        let events: Vec<Event> =
            page.iter().filter(|message| is_at_most(snapshot.newest_event, message)).filter_map(read_event).collect();
        snapshot.events_read += events.len() as u64;
        // The broker sends the next page while Postgres compares this one.
        let compared = async { anyhow::Ok(store::find_wrong_events(&mut snapshot.tx, &events).await?) };
        let (found, following) = tokio::try_join!(compared, pages.next())?;
        wrong.extend(found.into_iter().map(|event| (event.id, describe(&event))));
        next = if wrong.len() < usize::try_from(MOST)? { following } else { None };
    }
    pages.end().await;
    Ok(wrong.into_iter().map(|(id, text)| Finding::of_order(Check::Broker, id, text)).collect())
}

fn is_at_most(newest: u64, message: &Message) -> bool {
    message.info().is_ok_and(|info| info.stream_sequence <= newest)
}

/// The order that the deduplication id names, with the terms in the body if that is readable. `None` for a message without
/// such an id: the orders service did not publish it.
fn read_event(message: &Message) -> Option<Event> {
    let id = order_of(message.headers.as_ref()?)?;
    let terms = serde_json::from_slice::<Order>(&message.payload).ok().map(|order| Terms::from(&order));
    Some(Event { id, terms })
}

fn describe(event: &WrongEvent) -> String {
    let id = event.id;
    match &event.terms {
        None => format!("order {id} was published but is not in Postgres: was an older backup restored?"),
        Some((published, placed)) => format!("order {id} was published as {published}, instead of {placed}"),
    }
}

/// The order id in the deduplication id of a published order.
fn order_of(map: &async_nats::HeaderMap) -> Option<Uuid> {
    map.get(headers::NATS_MSG_ID)?.as_str().split(':').next()?.parse().ok()
}
