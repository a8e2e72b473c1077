//! Reads the contents of the broker.

use super::{
    finding::{Check, Finding},
    store::{self, MOST},
};
use anyhow::Context;
use off_events::{
    Order, OrderStatus, headers,
    streams::{self, CONSUMERS, STREAMS},
};
use off_kit::{Bus, bus::Content};
use serde::Serialize;
use sqlx::PgPool;
use std::collections::BTreeSet;
use uuid::Uuid;

/// The contents of all streams and the backlogs of all consumers.
#[derive(Debug, Serialize)]
pub(crate) struct BrokerContents {
    pub(super) streams: Vec<StreamContents>,
    pub(super) consumers: Vec<ConsumerContents>,
    /// Orders whose wait for the supplier is a message schedule.
    pub(super) waiting_for_supplier: u64,
    /// Orders whose wait for the delivery is a message schedule.
    pub(super) waiting_for_delivery: u64,
    /// Dead letters, without the records of those that were dropped.
    pub(super) dead_letters: u64,
}

#[derive(Debug, Serialize)]
pub(crate) struct StreamContents {
    pub(super) name: &'static str,
    pub(super) messages: u64,
    pub(super) bytes: u64,
    /// The sequence number of the newest message.
    pub(super) last_sequence: u64,
}

#[derive(Debug, Serialize)]
pub(crate) struct ConsumerContents {
    pub(super) name: &'static str,
    /// Messages that were not delivered yet.
    pub(super) pending: u64,
    /// Messages that were delivered and not acknowledged yet.
    pub(super) unacknowledged: u64,
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

/// Orders that were published, so they were stored, but are missing in Postgres: it was rolled back to an older state.
/// Reads the stream page by page; it holds the events of the last days.
pub(super) async fn orders_unknown_to_postgres(db: &PgPool, bus: &Bus) -> anyhow::Result<Vec<Finding>> {
    let mut unknown = BTreeSet::new();
    let mut pages = bus.pages(streams::ORDERS.name, Order::PENDING, 1, Content::HeadersOnly).await?;
    while let Some(page) = pages.next().await? {
        let ids: Vec<Uuid> = page.iter().filter_map(|message| order_of(message.headers.as_ref()?)).collect();
        let missing = store::find_missing_orders(db, &ids).await?;
        unknown.extend(missing);
        if unknown.len() >= usize::try_from(MOST)? {
            break;
        }
    }
    pages.end().await;
    Ok(unknown
        .into_iter()
        .map(|id| {
            let text = format!("order {id} was published but is not in Postgres: was an older backup restored?");
            Finding::of_order(Check::Broker, id, text)
        })
        .collect())
}

/// The order id in the deduplication id of a published order.
fn order_of(map: &async_nats::HeaderMap) -> Option<Uuid> {
    map.get(headers::NATS_MSG_ID)?.as_str().split(':').next()?.parse().ok()
}
