//! Reads the state of the streams and their consumers.

use anyhow::Context;
use chrono::{DateTime, Utc};
use futures::{TryStreamExt, future::try_join_all};
use off_events::streams::{CONSUMERS, STREAMS};
use off_kit::{Bus, bus::is_missing_stream as is_missing};
use serde::Serialize;
use utoipa::ToSchema;

/// A stream.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(crate) struct StreamState {
    name: &'static str,
    /// Whether the broker does not have it: `off migrate` creates it.
    is_missing: bool,
    messages: u64,
    bytes: u64,
    /// The size at which it is full.
    max_bytes: u64,
    first_sequence: u64,
    last_sequence: u64,
    /// When its oldest message was stored; absent while it is empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    oldest_at: Option<DateTime<Utc>>,
    /// Its durable consumers.
    consumers: Vec<ConsumerState>,
}

/// A durable consumer.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(crate) struct ConsumerState {
    #[schema(example = "billing-pending")]
    name: &'static str,
    /// Whether the broker does not have it: `off migrate` creates it.
    is_missing: bool,
    /// The service that uses it.
    #[schema(example = "billing")]
    service: &'static str,
    /// Messages that were not delivered yet.
    waiting: u64,
    /// Messages that were delivered and are not acknowledged.
    unacknowledged: u64,
    /// Of these, messages that were delivered more than once.
    redelivered: u64,
    /// Open pull requests: 0 if no replica of its service runs.
    pulls: u64,
    /// All messages up to this sequence number are acknowledged.
    acknowledged_through: u64,
}

/// The state of all streams.
pub(crate) async fn streams(bus: &Bus) -> anyhow::Result<Vec<StreamState>> {
    try_join_all(STREAMS.iter().map(|stream| read(bus, stream.name))).await
}

async fn read(bus: &Bus, name: &'static str) -> anyhow::Result<StreamState> {
    let reading = || format!("cannot read the state of stream {name}");
    let stream = match bus.jetstream.get_stream(name).await {
        Ok(stream) => stream,
        Err(error) if is_missing(&error) => {
            return Ok(StreamState { name, is_missing: true, ..StreamState::default() });
        }
        Err(error) => return Err(error).with_context(reading),
    };
    let infos: Vec<_> = stream.consumers().try_collect().await.map_err(anyhow::Error::from).with_context(reading)?;
    let consumers = CONSUMERS.iter().filter(|consumer| consumer.stream == name).map(|consumer| {
        let (name, service) = (consumer.name, consumer.service);
        let Some(info) = infos.iter().find(|info| info.name == name) else {
            return ConsumerState { name, service, is_missing: true, ..ConsumerState::default() };
        };
        ConsumerState {
            name,
            is_missing: false,
            service,
            waiting: info.num_pending,
            unacknowledged: info.num_ack_pending as u64,
            redelivered: info.num_redelivered as u64,
            pulls: info.num_waiting as u64,
            acknowledged_through: info.ack_floor.stream_sequence,
        }
    });
    let consumers = consumers.collect();
    let info = stream.cached_info();
    let state = &info.state;
    let first = state.first_timestamp;
    Ok(StreamState {
        name,
        is_missing: false,
        messages: state.messages,
        bytes: state.bytes,
        max_bytes: info.config.max_bytes.max(0).unsigned_abs(),
        first_sequence: state.first_sequence,
        last_sequence: state.last_sequence,
        oldest_at: (state.messages > 0)
            .then(|| DateTime::from_timestamp(first.unix_timestamp(), first.nanosecond()))
            .flatten(),
        consumers,
    })
}
