//! Creates the streams and consumers that `off_events::streams` declares. Used by `off migrate` and `off up`; services
//! never create streams.

use super::Bus;
use crate::backoff::Backoff;
use anyhow::Context;
use async_nats::jetstream::{
    ErrorCode,
    consumer::{self, AckPolicy, DeliverPolicy},
    context::{CreateStreamErrorKind, GetStreamError, GetStreamErrorKind},
    kv,
    stream::{Config, ConsumerError, ConsumerErrorKind, DiscardPolicy, RetentionPolicy, StorageType},
};
use off_events::faults;
use off_events::streams::{CONSUMERS, Consumer, STREAMS, Stream};
use std::time::Duration;
use tokio::time::Instant;
use tracing::warn;

/// How long a client may hold a message without acknowledgement before the broker delivers it again.
const ACK_WAIT: Duration = Duration::from_secs(30);

/// Maximum number of delivered, unacknowledged messages of one consumer.
pub const MAX_ACK_PENDING: i64 = 5000;

/// The broker drops a message whose id it has seen within this time. Later duplicates are delivered; handlers are
/// idempotent, so they are harmless.
const DUPLICATE_WINDOW: Duration = Duration::from_mins(2);

/// How long a cluster that has just started may take to elect a leader.
const ELECTION_TIMEOUT: Duration = Duration::from_mins(1);

/// Size limit of the bucket of failure switches.
const BUCKET_BYTES: i64 = 1024 * 1024;

/// Default size limit of all streams together, in MiB.
const DEFAULT_MAX_MIB: u32 = 6144;

/// Replication and size limit of the streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::Args)]
#[group(skip)]
pub struct StreamStorage {
    /// The number of replicas of each stream: 1, 3 or 5.
    #[arg(long = "nats-replicas", env = "NATS_REPLICAS", default_value = "1", value_name = "N",
        value_parser = parse_replicas)]
    pub replicas: usize,
    /// Size limit in MiB of all streams together, on each server that stores them. A stream that has used up its share
    /// deletes its oldest messages. The max_file_store of the server must be larger.
    #[arg(long = "nats-max-mib", env = "NATS_MAX_MIB", default_value_t = DEFAULT_MAX_MIB, value_name = "MIB",
        value_parser = clap::value_parser!(u32).range(64..))]
    pub max_mib: u32,
}

/// One replica and the default size limit.
impl Default for StreamStorage {
    fn default() -> Self {
        Self { replicas: 1, max_mib: DEFAULT_MAX_MIB }
    }
}

/// An even number of replicas tolerates no more failures than one fewer.
fn parse_replicas(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(replicas @ (1 | 3 | 5)) => Ok(replicas),
        _ => Err("expected 1, 3 or 5".to_owned()),
    }
}

/// Creates missing streams and consumers, and updates those that differ.
pub async fn declare(bus: &Bus, storage: StreamStorage) -> anyhow::Result<()> {
    for stream in &STREAMS {
        let created = retry_transient(
            || bus.jetstream.create_or_update_stream(stream_config(stream, storage)),
            |error| match error.kind() {
                CreateStreamErrorKind::TimedOut | CreateStreamErrorKind::JetStreamUnavailable => true,
                CreateStreamErrorKind::JetStream(error) => is_cluster_forming(error.error_code()),
                _ => false,
            },
        );
        created.await.with_context(|| {
            format!(
                "cannot create stream {} with {} replicas: is JetStream enabled, with a max_file_store above {} MiB?",
                stream.name, storage.replicas, storage.max_mib
            )
        })?;
    }
    let bucket =
        retry_transient(|| bus.jetstream.create_or_update_key_value(bucket_config(storage)), |_| !bus.is_connected());
    bucket.await.with_context(|| format!("cannot create the bucket {}", faults::BUCKET))?;
    for consumer in &CONSUMERS {
        let created = retry_transient(
            || bus.jetstream.create_consumer_on_stream(consumer_config(consumer), consumer.stream),
            |error| match error.kind() {
                ConsumerErrorKind::TimedOut => true,
                ConsumerErrorKind::JetStream(error) => is_cluster_forming(error.error_code()),
                _ => false,
            },
        );
        created
            .await
            .with_context(|| format!("cannot create consumer {} of stream {}", consumer.name, consumer.stream))?;
    }
    Ok(())
}

/// Runs `create`, and retries transient errors until [`ELECTION_TIMEOUT`].
async fn retry_transient<T, E, F>(mut create: impl FnMut() -> F, is_transient: impl Fn(&E) -> bool) -> Result<T, E>
where
    E: std::fmt::Display,
    F: Future<Output = Result<T, E>>,
{
    let deadline = Instant::now() + ELECTION_TIMEOUT;
    let mut backoff = Backoff::default();
    loop {
        match create().await {
            Err(error) if is_transient(&error) && Instant::now() < deadline => {
                warn!("JetStream is not ready, retrying: {error}");
                tokio::time::sleep(backoff.pause()).await;
            }
            result => return result,
        }
    }
}

/// Whether this is the error of a cluster that has no leader yet, or does not know all of its servers yet.
fn is_cluster_forming(code: ErrorCode) -> bool {
    [ErrorCode::CLUSTER_NOT_AVAILABLE, ErrorCode::CLUSTER_NO_PEERS].contains(&code)
}

/// The declared streams and consumers that do not exist at the broker, each as text like `stream ORDERS`.
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
    if bus.jetstream.get_stream(faults::BUCKET_STREAM).await.is_err_and(|error| is_missing_stream(&error)) {
        missing.push(format!("bucket {}", faults::BUCKET));
    }
    missing
}

/// Whether the broker answered that the stream does not exist.
pub fn is_missing_stream(error: &GetStreamError) -> bool {
    matches!(error.kind(), GetStreamErrorKind::JetStream(error) if error.error_code() == ErrorCode::STREAM_NOT_FOUND)
}

/// Whether the broker answered that the consumer or its stream does not exist.
pub(super) fn is_missing(error: &ConsumerError) -> bool {
    matches!(error.kind(), ConsumerErrorKind::JetStream(error)
        if [ErrorCode::CONSUMER_NOT_FOUND, ErrorCode::STREAM_NOT_FOUND].contains(&error.error_code()))
}

fn stream_config(stream: &Stream, storage: StreamStorage) -> Config {
    Config {
        name: stream.name.to_owned(),
        description: Some(stream.description.to_owned()),
        subjects: stream.subjects.iter().map(|&subject| subject.to_owned()).collect(),
        retention: RetentionPolicy::Limits,
        storage: StorageType::File,
        num_replicas: storage.replicas,
        max_age: stream.max_age,
        max_bytes: i64::from(storage.max_mib) * 1024 * 1024 * i64::from(stream.share) / 100,
        discard: if stream.refuses_when_full { DiscardPolicy::New } else { DiscardPolicy::Old },
        duplicate_window: DUPLICATE_WINDOW,
        allow_direct: true,
        allow_message_schedules: stream.keeps_schedules,
        // The server enables this together with schedules. Without it, every update would try to disable it.
        allow_rollup: stream.keeps_schedules,
        ..Config::default()
    }
}

fn bucket_config(storage: StreamStorage) -> kv::Config {
    kv::Config {
        bucket: faults::BUCKET.to_owned(),
        description: "The failure switches that are on".to_owned(),
        history: 1,
        max_bytes: BUCKET_BYTES,
        num_replicas: storage.replicas,
        ..kv::Config::default()
    }
}

fn consumer_config(consumer: &Consumer) -> consumer::pull::Config {
    consumer::pull::Config {
        durable_name: Some(consumer.name.to_owned()),
        description: Some(consumer.description.to_owned()),
        deliver_policy: DeliverPolicy::All,
        ack_policy: AckPolicy::Explicit,
        ack_wait: ACK_WAIT,
        // Unlimited: the listener counts deliveries and turns the message into a dead letter.
        max_deliver: -1,
        filter_subject: consumer.subject.to_owned(),
        max_ack_pending: MAX_ACK_PENDING,
        ..consumer::pull::Config::default()
    }
}
