//! Follows a stream: all its events in their order, without a gap, also after a broken connection.

use super::{
    Live,
    event::{LiveEvent, Source},
};
use anyhow::Context;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, push};
use futures::StreamExt;
use off_kit::{Bus, Kit, LogLimit, backoff::Backoff};
use std::time::Duration;
use tracing::{debug, warn};

/// How many messages before the newest one are read at the start, so that charts and resuming viewers have a past.
const READ_BACK: u64 = 50_000;

/// A connection on which the broker is silent for longer is broken.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// The last message that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Last {
    sequence: u64,
    /// When the broker stored it, in nanoseconds since 1970.
    published: i128,
    /// When its stream was created, in seconds since 1970.
    created: u64,
}

/// Spawns a task on `kit` that puts the events of `source` into `live`.
pub(super) fn start(kit: &Kit, bus: &Bus, source: Source, live: &Live) {
    let (bus, live, tasks) = (bus.clone(), live.clone(), kit.tasks.clone());
    kit.tasks.spawn(format!("follow {}", source.stream()), async move {
        let (log_limit, mut backoff) = (LogLimit::default(), Backoff::default());
        let mut last = None;
        loop {
            let ended = tokio::select! {
                () = tasks.stopping() => return Ok(()),
                ended = follow(&bus, source, &live, &mut last, &mut backoff) => ended,
            };
            if let (Err(error), Some(suppressed)) = (ended, log_limit.admit()) {
                warn!(suppressed, "cannot follow the stream {}, retrying: {error:#}", source.stream());
            }
            tokio::select! {
                () = tasks.stopping() => return Ok(()),
                () = tokio::time::sleep(backoff.pause()) => {}
            }
        }
    });
}

/// Follows a stream until an error. Its messages are pushed: pulling would need the permission to pull from the consumers
/// of services, too.
async fn follow(
    bus: &Bus,
    source: Source,
    live: &Live,
    last: &mut Option<Last>,
    backoff: &mut Backoff,
) -> anyhow::Result<()> {
    let stream = bus.jetstream.get_stream(source.stream()).await.context("no such stream")?;
    let info = stream.cached_info();
    let (newest, created) = (info.state.last_sequence, info.created.unix_timestamp().unsigned_abs());
    // Another stream of the same name, or one that ends before the last message: it was restored from an older copy.
    *last = last.filter(|last| last.created == created && last.sequence <= newest);
    // The last message is read again, and must be the same: a stream that was restored may have grown beyond it.
    let start = last.map_or((newest + 1).saturating_sub(READ_BACK).max(1), |last| last.sequence);
    let config = push::Config {
        deliver_subject: bus.client.new_inbox(),
        deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: start },
        ack_policy: AckPolicy::None,
        filter_subjects: source.subjects().iter().map(|subject| (*subject).to_owned()).collect(),
        idle_heartbeat: HEARTBEAT,
        flow_control: true,
        memory_storage: true,
        num_replicas: 1,
        ..push::Config::default()
    };
    let consumer: async_nats::jetstream::consumer::PushConsumer =
        bus.jetstream.create_consumer_on_stream(config, source.stream()).await.context("no consumer")?;
    let mut messages = consumer.messages().await?;
    if last.is_none() {
        live.begin(source, start, created, newest);
    }
    let mut repeated = *last;
    *backoff = Backoff::default();
    let mut pushed = 0;
    while let Some(message) = messages.next().await {
        let message = message?;
        let info = message.info().map_err(anyhow::Error::from_boxed).context("a message without a sequence")?;
        pushed += 1;
        // What was pushed into a connection that broke is not pushed again.
        anyhow::ensure!(info.consumer_sequence == pushed, "a message was lost");
        let read = Last { sequence: info.stream_sequence, published: info.published.unix_timestamp_nanos(), created };
        if let Some(before) = repeated.take() {
            if read != before {
                *last = None;
                anyhow::bail!("the stream was replaced or purged");
            }
            continue;
        }
        *last = Some(read);
        if let Some(event) = LiveEvent::of(source, &message) {
            live.push(event);
        } else {
            live.pass(source, info.stream_sequence);
            // Its consumers make it a dead letter.
            debug!("message {} of {} is not readable", info.stream_sequence, source.stream());
        }
    }
    anyhow::bail!("the broker ended the subscription")
}
