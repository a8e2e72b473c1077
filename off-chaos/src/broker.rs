//! Faults in the broker's storage: full, purged and deleted streams, and deleted consumers.

use async_nats::jetstream::stream::{Config, DiscardPolicy};
use bytes::Bytes;
use off_events::{
    StockConsumed,
    streams::{self, Stream},
};
use off_kit::{Bus, backoff::Backoff, bus::StreamStorage};
use std::time::Duration;
use tokio::time::Instant;

/// The stream that fills the broker's storage.
const FILLER_STREAM: &str = "FILLER";

/// The subject of that stream, and a token of the subjects that fill the others.
const FILLER: &str = "filler";

/// Size of a filler message, in bytes. The broker accepts at most one megabyte.
const FILLER_BYTES: usize = 900 * 1024;

/// Size of the messages that fill the remaining space, in bytes.
const SMALL_FILLER_BYTES: usize = 1024;

/// Filler messages that are in flight at once.
const FILLER_BATCH: usize = 16;

/// How long an operation may be retried while other faults prevent it.
const RETRY_TIMEOUT: Duration = Duration::from_secs(90);

/// Fills the broker's storage until it refuses a message. Returns early if the broker becomes unavailable.
pub(crate) async fn fill_broker(bus: &Bus) -> anyhow::Result<()> {
    let config = Config {
        name: FILLER_STREAM.to_owned(),
        subjects: vec![FILLER.to_owned()],
        discard: DiscardPolicy::New,
        ..Config::default()
    };
    retry("fill the broker's storage", || bus.jetstream.create_or_update_stream(config.clone())).await?;
    fill(bus, FILLER, FILLER_BYTES, usize::MAX).await;
    Ok(())
}

/// Deletes the stream that fills the broker's storage.
pub(crate) async fn clear_broker(bus: &Bus) -> anyhow::Result<()> {
    delete_stream(bus, FILLER_STREAM).await
}

/// Publishes as many bytes as a stream may hold. The stream discards its oldest messages or is full afterwards,
/// depending on its settings.
pub(crate) async fn fill_stream(bus: &Bus, name: &str, storage_mib: u32) -> anyhow::Result<()> {
    let Some(stream) = streams::STREAMS.iter().find(|stream| stream.name == name) else { return Ok(()) };
    let subject = filler_subject(stream);
    let bytes = usize::try_from(storage_mib)? * 1024 * 1024 * usize::from(stream.share) / 100;
    fill(bus, &subject, FILLER_BYTES, bytes / FILLER_BYTES + FILLER_BATCH).await;
    if stream.refuses_when_full {
        // Messages that are smaller than the filler still fit.
        fill(bus, &subject, SMALL_FILLER_BYTES, FILLER_BATCH * FILLER_BYTES / SMALL_FILLER_BYTES).await;
    }
    Ok(())
}

/// The subject of the messages that fill a stream.
fn filler_subject(stream: &Stream) -> String {
    match wildcard_subject(stream) {
        // No consumer reads it.
        Some(subject) => subject.replace(['*', '>'], FILLER),
        // Devices publish on this subject, so its consumer drops the filler as junk.
        None => StockConsumed::SUBJECT.to_owned(),
    }
}

/// The subject of a stream that has wildcards; that of `ORDERS` is the subject of all message schedules.
fn wildcard_subject(stream: &Stream) -> Option<&'static str> {
    stream.subjects.iter().copied().find(|subject| subject.contains(['*', '>']))
}

/// How many messages of a stream its consumers have not acknowledged; `None` if the broker does not answer.
pub(crate) async fn count_unhandled(bus: &Bus, stream: &str) -> Option<u64> {
    let mut unhandled = 0;
    for consumer in streams::CONSUMERS.iter().filter(|consumer| consumer.stream == stream) {
        let waiting = bus.backlog(consumer).await.ok()?;
        unhandled += waiting.pending + waiting.unacknowledged;
    }
    Some(unhandled)
}

/// Sequence number of the oldest message in a stream; `None` if the broker does not answer.
pub(crate) async fn find_first_sequence(bus: &Bus, stream: &str) -> Option<u64> {
    Some(bus.jetstream.get_stream(stream).await.ok()?.cached_info().state.first_sequence)
}

/// Purges the filler from the dead letters. The other streams discard their filler on their own.
pub(crate) async fn clear_stream(bus: &Bus, name: &str) -> anyhow::Result<()> {
    if name != streams::DEAD_LETTERS.name {
        return Ok(());
    }
    retry("clear the dead letters", || async move {
        let stream = bus.jetstream.get_stream(name).await.map_err(|error| error.to_string())?;
        stream.purge().filter(filler_subject(&streams::DEAD_LETTERS)).await.map_err(|error| error.to_string())
    })
    .await?;
    Ok(())
}

/// Publishes messages of `size` bytes until `max_count` are sent or the broker refuses one.
async fn fill(bus: &Bus, subject: &str, size: usize, max_count: usize) {
    let filler = Bytes::from(vec![b'.'; size]);
    let mut sent = 0;
    while sent < max_count {
        let batch =
            (0..FILLER_BATCH).map(|_| async { bus.jetstream.publish(subject.to_owned(), filler.clone()).await?.await });
        if futures::future::join_all(batch).await.iter().any(Result::is_err) {
            return;
        }
        sent += FILLER_BATCH;
    }
}

/// Purges all message schedules.
pub(crate) async fn purge_schedules(bus: &Bus) -> anyhow::Result<()> {
    retry("purge the message schedules", || async {
        let stream = bus.jetstream.get_stream(streams::ORDERS.name).await.map_err(|error| error.to_string())?;
        stream
            .purge()
            .filter(wildcard_subject(&streams::ORDERS).unwrap_or_default())
            .await
            .map_err(|error| error.to_string())
    })
    .await?;
    Ok(())
}

/// Deletes a stream with its messages and consumers.
pub(crate) async fn delete_stream(bus: &Bus, name: &str) -> anyhow::Result<()> {
    retry("delete a stream", || async {
        match bus.jetstream.delete_stream(name).await {
            Err(error) if !error.to_string().contains("not found") => Err(error),
            _ => Ok(()),
        }
    })
    .await
}

/// Deletes a consumer.
pub(crate) async fn delete_consumer(bus: &Bus, name: &str) -> anyhow::Result<()> {
    let Some(consumer) = streams::CONSUMERS.iter().find(|consumer| consumer.name == name) else { return Ok(()) };
    retry("delete a consumer", || async {
        match bus.jetstream.delete_consumer_from_stream(consumer.name, consumer.stream).await {
            Err(error) if !error.to_string().contains("not found") => Err(error),
            _ => Ok(()),
        }
    })
    .await
}

/// Creates the streams and consumers that are missing.
pub(crate) async fn declare(bus: &Bus, storage_mib: u32) -> anyhow::Result<()> {
    let storage = StreamStorage { max_mib: storage_mib, ..StreamStorage::default() };
    retry("create streams and consumers", || async move {
        off_kit::bus::declare(bus, storage).await.map_err(|error| format!("{error:#}"))
    })
    .await
}

/// Retries an operation that fails while the broker is unavailable or full.
async fn retry<T, E, F>(what: &str, mut attempt: impl FnMut() -> F) -> anyhow::Result<T>
where
    E: std::fmt::Display,
    F: Future<Output = Result<T, E>>,
{
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
    let deadline = Instant::now() + RETRY_TIMEOUT;
    loop {
        match attempt().await {
            Ok(done) => return Ok(done),
            Err(error) if Instant::now() >= deadline => anyhow::bail!("cannot {what}: {error}"),
            Err(_) => tokio::time::sleep(backoff.pause()).await,
        }
    }
}
