//! Faults in the broker: republished, unprocessable and junk messages, full, purged and deleted streams.

use crate::journal::{self, Journal};
use async_nats::{
    HeaderMap,
    jetstream::{
        Message,
        message::PublishMessage,
        stream::{Config, DiscardPolicy},
    },
};
use bytes::Bytes;
use off_events::{
    Barcode, Event, Order, OrderDue, OrderId, OrderStatus, Quantity, SsdId, StockConsumed, StockLow, headers,
    streams::{self, Consumer, Stream},
};
use off_kit::{
    Bus, Clock,
    backoff::Backoff,
    bus::{StreamStorage, dead_letters},
};
use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use std::time::Duration;
use tokio::time::Instant;
use uuid::Uuid;

/// Header that identifies a poison message, and later its dead letters.
const TAG_HEADER: &str = "Off-Chaos";

/// A device that is not registered.
const UNKNOWN_DEVICE: SsdId = SsdId(999_999_999);

/// How many of the newest messages of a stream are republished.
const REPUBLISHED_PER_STREAM: u64 = 400;

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

/// Small junk messages that a device sends, and how many of them are in flight at once.
const JUNK_MESSAGES: usize = 7000;
const JUNK_BATCH: usize = 700;

/// Size of a large junk header, in bytes. The broker accepts 64 KiB.
const LARGE_HEADER_BYTES: usize = 65_300;

/// How long an operation may be retried while other faults prevent it.
const RETRY_TIMEOUT: Duration = Duration::from_secs(90);

/// Republishes the newest messages of every subject in random order; returns how many.
pub(crate) async fn republish(bus: &Bus, seed: u64) -> anyhow::Result<usize> {
    let mut old: Vec<Message> = Vec::new();
    for stream in [&streams::ORDERS, &streams::STOCK] {
        let newest = bus.jetstream.get_stream(stream.name).await?.cached_info().state.last_sequence;
        for consumer in streams::CONSUMERS.iter().filter(|consumer| consumer.stream == stream.name) {
            old.extend(bus.read(stream.name, consumer.subject, newest.saturating_sub(REPUBLISHED_PER_STREAM)).await?);
        }
    }
    // Leaves out poison, junk and filler: republishing so many would push unhandled messages out of the streams.
    old.retain(|message| {
        message.headers.as_ref().is_some_and(|map| map.get(headers::CE_ID).is_some() && map.get(TAG_HEADER).is_none())
    });
    old.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
    let count = old.len();
    for message in old {
        // Without the `Nats-` headers, by which the broker would deduplicate the message.
        let mut map = HeaderMap::new();
        for (name, values) in message.headers.iter().flat_map(HeaderMap::iter) {
            if let Some(value) = values.first().filter(|_| !name.to_string().starts_with("Nats-")) {
                map.insert(name.clone(), value.clone());
            }
        }
        publish(bus, &message.subject, map, message.payload.clone()).await?;
    }
    Ok(count)
}

/// A message that no handler can process, and the consumers that have to turn it into a dead letter.
struct PoisonMessage {
    subject: &'static str,
    body: Bytes,
    consumers: Vec<Consumer>,
}

/// Publishes poison messages on every subject and records the dead letters that must follow; returns how many it sent.
pub(crate) async fn poison(bus: &Bus, journal: &Journal, clock: Clock, round: usize) -> anyhow::Result<usize> {
    let messages = poison_messages(clock)?;
    let count = messages.len();
    for (number, message) in messages.into_iter().enumerate() {
        let tag = format!("poison-{round}-{number}");
        let sent = Instant::now();
        let mut map = HeaderMap::new();
        map.insert(headers::NATS_MSG_ID, tag.as_str());
        map.insert(TAG_HEADER, tag.as_str());
        publish(bus, message.subject, map, message.body).await?;
        let mut entries = journal.lock();
        for consumer in &message.consumers {
            let poison = journal::Poison { subject: message.subject, published: sent..=Instant::now() };
            entries.poison.insert((consumer.name.to_owned(), tag.clone()), poison);
        }
    }
    Ok(count)
}

fn poison_messages(clock: Clock) -> anyhow::Result<Vec<PoisonMessage>> {
    // Consumers of device messages drop what they cannot process; it does not become a dead letter.
    let consumers_of = |subject: &str| {
        let consumers = streams::CONSUMERS.into_iter();
        consumers.filter(|consumer| consumer.subject == subject && !consumer.is_from_devices).collect()
    };
    let mut messages = Vec::new();
    for subject in
        [Order::PENDING, OrderDue::SUBJECT, Order::SHIPPED, Order::COMPLETED, StockConsumed::SUBJECT, StockLow::SUBJECT]
    {
        for body in ["not json at all", "{}", ""] {
            messages.push(PoisonMessage { subject, body: body.into(), consumers: consumers_of(subject) });
        }
    }
    let barcode: Barcode = "2000000000015".parse()?;
    let order = Order {
        id: OrderId(Uuid::now_v7()),
        ssd_id: UNKNOWN_DEVICE,
        barcode: barcode.clone(),
        timestamp: clock.now(),
        quantity: Quantity::try_from(1)?,
        status: OrderStatus::Completed,
    };
    // An order that does not exist, for an unknown device, on its own subject and on the wrong one.
    for subject in [Order::COMPLETED, Order::PENDING] {
        let body = serde_json::to_vec(&order)?.into();
        messages.push(PoisonMessage { subject, body, consumers: consumers_of(subject) });
    }
    let report = StockConsumed {
        id: Uuid::now_v7().to_string(),
        ssd_id: UNKNOWN_DEVICE,
        barcode,
        quantity: Quantity::try_from(1)?,
        timestamp: clock.now(),
    };
    let subject = report.subject();
    let body = serde_json::to_vec(&report)?.into();
    messages.push(PoisonMessage { subject, body, consumers: consumers_of(subject) });
    Ok(messages)
}

/// The tag of a dead letter, if it was a poison message.
pub(crate) fn tag_of(letter: &dead_letters::DeadLetter) -> Option<&str> {
    letter.headers.iter().find(|(name, _)| name == TAG_HEADER).map(|(_, tag)| tag.as_str())
}

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
        let waiting = bus.waiting(consumer).await.ok()?;
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

/// Publishes junk as a misbehaving device could: messages with headers just below the broker's limit, messages with
/// large bodies, and many small ones. Returns how many the broker accepted.
pub(crate) async fn junk(bus: &Bus) -> usize {
    let mut large = HeaderMap::new();
    large.insert("Junk", "x".repeat(LARGE_HEADER_BYTES).as_str());
    let kinds = [
        (JUNK_MESSAGES / 10, large, Bytes::from_static(b"{")),
        (JUNK_MESSAGES / 100, HeaderMap::new(), Bytes::from(vec![b'{'; FILLER_BYTES])),
        (JUNK_MESSAGES, HeaderMap::new(), Bytes::from_static(b"junk")),
    ];
    let mut accepted = 0;
    for (count, headers, body) in kinds {
        for _ in 0..count / JUNK_BATCH.min(count) {
            let messages = (0..JUNK_BATCH.min(count)).map(|_| {
                let message = PublishMessage::build().headers(headers.clone()).payload(body.clone());
                async { bus.jetstream.send_publish(StockConsumed::SUBJECT, message).await?.await }
            });
            accepted += futures::future::join_all(messages).await.iter().filter(|sent| sent.is_ok()).count();
        }
    }
    accepted
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

/// Retries a publish until the broker acknowledges it.
async fn publish(bus: &Bus, subject: &str, headers: HeaderMap, body: Bytes) -> anyhow::Result<()> {
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
    let mut last = None;
    for _ in 0..60 {
        let message = PublishMessage::build().headers(headers.clone()).payload(body.clone());
        let sent = match bus.jetstream.send_publish(subject.to_owned(), message).await {
            Ok(ack) => ack.await,
            Err(error) => Err(error),
        };
        match sent {
            Ok(_) => return Ok(()),
            Err(error) => last = Some(error),
        }
        tokio::time::sleep(backoff.pause()).await;
    }
    Err(anyhow::anyhow!("the broker acknowledges no message on {subject}: {last:?}"))
}
