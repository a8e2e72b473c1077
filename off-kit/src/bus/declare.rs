//! Makes the streams and consumers that `off_events::streams` declares: for `off migrate` and `off up`, never for a service.

use super::Bus;
use crate::backoff::Backoff;
use anyhow::Context;
use async_nats::jetstream::{
    ErrorCode,
    consumer::{self, AckPolicy, DeliverPolicy},
    context::{CreateStreamErrorKind, GetStreamError, GetStreamErrorKind},
    stream::{Config, ConsumerError, ConsumerErrorKind, DiscardPolicy, RetentionPolicy, StorageType},
};
use off_events::streams::{CONSUMERS, Consumer, STREAMS, Stream};
use std::time::Duration;
use tokio::time::Instant;
use tracing::warn;

/// How long a consumer's reader may hold a message before another gets it.
const ACK_WAIT: Duration = Duration::from_secs(30);

/// The most messages that may be out with the readers of one consumer.
pub const MAX_ACK_PENDING: i64 = 5000;

/// A publisher that repeats a message within this time adds nothing. Longer repetitions are harmless, but seen.
const DUPLICATE_WINDOW: Duration = Duration::from_mins(2);

/// How long the servers of a cluster that has just started may take to agree who leads.
const AGREED_WITHIN: Duration = Duration::from_mins(1);

/// MiB for all streams where nothing else is said.
const ROOM: u32 = 6144;

/// How the servers keep the streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::Args)]
#[group(skip)]
pub struct Keeping {
    /// How many servers of a cluster keep each stream: 1, 3 or 5.
    #[arg(long = "nats-replicas", env = "NATS_REPLICAS", default_value = "1", value_name = "N",
        value_parser = parse_replicas)]
    pub replicas: usize,
    /// MiB that all streams together take at most, on each server that keeps them. Where one has used up its share, its
    /// oldest messages go. The server has to allow more than this (max_file_store).
    #[arg(long = "nats-room", env = "NATS_ROOM", default_value_t = ROOM, value_name = "MIB",
        value_parser = clap::value_parser!(u32).range(64..))]
    pub room: u32,
}

/// On one server that need not hold anything else.
impl Default for Keeping {
    fn default() -> Self {
        Self { replicas: 1, room: ROOM }
    }
}

/// An even number of servers decides nothing that one fewer would not.
fn parse_replicas(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(replicas @ (1 | 3 | 5)) => Ok(replicas),
        _ => Err("expected 1, 3 or 5".to_owned()),
    }
}

/// Creates what is missing and updates what differs.
pub async fn declare(bus: &Bus, keeping: Keeping) -> anyhow::Result<()> {
    for stream in &STREAMS {
        let made = once_agreed(
            || bus.jetstream.create_or_update_stream(stream_config(stream, keeping)),
            |error| match error.kind() {
                CreateStreamErrorKind::TimedOut | CreateStreamErrorKind::JetStreamUnavailable => true,
                CreateStreamErrorKind::JetStream(error) => is_undecided(error.error_code()),
                _ => false,
            },
        );
        made.await.with_context(|| {
            format!(
                "stream {} cannot be made on {} servers: is JetStream on, with a max_file_store above {} MiB?",
                stream.name, keeping.replicas, keeping.room
            )
        })?;
    }
    for consumer in &CONSUMERS {
        let made = once_agreed(
            || bus.jetstream.create_consumer_on_stream(consumer_config(consumer), consumer.stream),
            |error| match error.kind() {
                ConsumerErrorKind::TimedOut => true,
                ConsumerErrorKind::JetStream(error) => is_undecided(error.error_code()),
                _ => false,
            },
        );
        made.await
            .with_context(|| format!("consumer {} of stream {} cannot be made", consumer.name, consumer.stream))?;
    }
    Ok(())
}

/// Tries again what fails only because servers have yet to agree.
async fn once_agreed<T, E, F>(mut make: impl FnMut() -> F, is_passing: impl Fn(&E) -> bool) -> Result<T, E>
where
    E: std::fmt::Display,
    F: Future<Output = Result<T, E>>,
{
    let deadline = Instant::now() + AGREED_WITHIN;
    let mut backoff = Backoff::default();
    loop {
        match make().await {
            Err(error) if is_passing(&error) && Instant::now() < deadline => {
                warn!("JetStream is not ready yet, trying again: {error}");
                tokio::time::sleep(backoff.pause()).await;
            }
            made => return made,
        }
    }
}

/// Whether a cluster answers so while it has no leader, or has not heard of all its servers.
fn is_undecided(code: ErrorCode) -> bool {
    [ErrorCode::CLUSTER_NOT_AVAILABLE, ErrorCode::CLUSTER_NO_PEERS].contains(&code)
}

/// The streams and consumers that are declared and that the broker does not know, in words.
pub async fn find_missing(bus: &Bus) -> Vec<String> {
    let mut missing = Vec::new();
    for consumer in &CONSUMERS {
        let found: Result<consumer::PullConsumer, _> =
            bus.jetstream.get_consumer_from_stream(consumer.name, consumer.stream).await;
        if found.is_err_and(|error| is_missing(&error)) {
            missing.push(format!("consumer {} of stream {}", consumer.name, consumer.stream));
        }
    }
    for stream in &STREAMS {
        let found = bus.jetstream.get_stream(stream.name).await;
        if found.is_err_and(|error| is_missing_stream(&error)) {
            missing.push(format!("stream {}", stream.name));
        }
    }
    missing
}

/// Whether the broker answered that there is no such stream.
pub(super) fn is_missing_stream(error: &GetStreamError) -> bool {
    matches!(error.kind(), GetStreamErrorKind::JetStream(error) if error.error_code() == ErrorCode::STREAM_NOT_FOUND)
}

/// Whether the broker answered that there is no such consumer, or no such stream.
pub(super) fn is_missing(error: &ConsumerError) -> bool {
    matches!(error.kind(), ConsumerErrorKind::JetStream(error)
        if [ErrorCode::CONSUMER_NOT_FOUND, ErrorCode::STREAM_NOT_FOUND].contains(&error.error_code()))
}

fn stream_config(stream: &Stream, keeping: Keeping) -> Config {
    Config {
        name: stream.name.to_owned(),
        description: Some(stream.description.to_owned()),
        subjects: stream.subjects.iter().map(|&subject| subject.to_owned()).collect(),
        retention: RetentionPolicy::Limits,
        storage: StorageType::File,
        num_replicas: keeping.replicas,
        max_age: stream.max_age,
        max_bytes: i64::from(keeping.room) * 1024 * 1024 * i64::from(stream.share) / 100,
        discard: if stream.refuses_when_full { DiscardPolicy::New } else { DiscardPolicy::Old },
        duplicate_window: DUPLICATE_WINDOW,
        allow_direct: true,
        allow_message_schedules: stream.keeps_schedules,
        // The server turns this on with schedules; left out, every update would try to turn it off again.
        allow_rollup: stream.keeps_schedules,
        ..Config::default()
    }
}

fn consumer_config(consumer: &Consumer) -> consumer::pull::Config {
    consumer::pull::Config {
        durable_name: Some(consumer.name.to_owned()),
        description: Some(consumer.description.to_owned()),
        deliver_policy: DeliverPolicy::All,
        ack_policy: AckPolicy::Explicit,
        ack_wait: ACK_WAIT,
        // Redelivery never ends by itself: the listener counts, and puts what is hopeless into the dead letters.
        max_deliver: -1,
        filter_subject: consumer.subject.to_owned(),
        max_ack_pending: MAX_ACK_PENDING,
        ..consumer::pull::Config::default()
    }
}
