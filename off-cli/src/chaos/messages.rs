//! Messages that should not be: old ones said again, and such as nobody can handle.

use super::journal::{self, Journal};
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
    streams::{self, Consumer},
};
use off_kit::{
    Bus, Clock,
    backoff::Backoff,
    bus::{Keeping, dead},
};
use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use std::time::Duration;
use tokio::time::Instant;
use uuid::Uuid;

/// Names the poison, so that its dead letters are known again.
const TAG: &str = "Off-Chaos";

/// A device nobody has.
const NOBODYS: SsdId = SsdId(999_999_999);

/// The newest messages of a stream that are said again.
const REPEATED: u64 = 400;

/// The stream that fills the broker's storage.
const FILLER: &str = "FILLER";

/// What fills it, in bytes; the broker takes a megabyte at most.
const BRICK: usize = 900 * 1024;

/// What fills the gaps, in bytes.
const SMALL_BRICK: usize = 1024;

/// Bricks that are on their way at once.
const BRICKS: usize = 16;

/// What fills the dead letters.
const FILLER_OF_DEAD_LETTERS: &str = "dead.filler.filler";

/// How many small messages of junk a device sends, how many at once, and how large a header is, in bytes: the broker takes 64 KiB.
const JUNK: usize = 7000;
const JUNK_AT_ONCE: usize = 700;
const LARGE_HEADER: usize = 65_300;

/// How long it may take to do, or to heal, what other faults stand in the way of.
const HEALED_WITHIN: Duration = Duration::from_secs(90);

/// Says the newest messages of every subject again, in another order, as news from long ago.
pub(super) async fn repeat(bus: &Bus, seed: u64) -> anyhow::Result<usize> {
    let mut old: Vec<Message> = Vec::new();
    for stream in [&streams::ORDERS, &streams::STOCK] {
        let newest = bus.jetstream.get_stream(stream.name).await?.cached_info().state.last_sequence;
        for consumer in streams::CONSUMERS.iter().filter(|consumer| consumer.stream == stream.name) {
            old.extend(bus.read(stream.name, consumer.subject, newest.saturating_sub(REPEATED)).await?);
        }
    }
    // Poison, junk and what fills streams was never said: so much of it would push out what nobody has handled yet.
    old.retain(|message| {
        message.headers.as_ref().is_some_and(|map| map.get(headers::CE_ID).is_some() && map.get(TAG).is_none())
    });
    old.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
    let count = old.len();
    for message in old {
        // Without what the broker would know it again by.
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

/// Something nobody can handle, and who has to give it up.
struct Poison {
    subject: &'static str,
    body: Bytes,
    consumers: Vec<Consumer>,
}

/// Sends poison on every subject, and notes who has to give it up.
pub(super) async fn poison(bus: &Bus, journal: &Journal, clock: Clock, round: usize) -> anyhow::Result<usize> {
    let doses = doses(clock)?;
    let count = doses.len();
    for (number, dose) in doses.into_iter().enumerate() {
        let tag = format!("poison-{round}-{number}");
        let sent = Instant::now();
        let mut map = HeaderMap::new();
        map.insert(headers::NATS_MSG_ID, tag.as_str());
        map.insert(TAG, tag.as_str());
        publish(bus, dose.subject, map, dose.body).await?;
        let mut pages = journal.lock();
        for consumer in &dose.consumers {
            let poison = journal::Poison { subject: dose.subject, sending: sent..=Instant::now() };
            pages.poison.insert((consumer.name.to_owned(), tag.clone()), poison);
        }
    }
    Ok(count)
}

fn doses(clock: Clock) -> anyhow::Result<Vec<Poison>> {
    // What a device sends is no dead letter.
    let listeners = |subject: &str| {
        let consumers = streams::CONSUMERS.into_iter();
        consumers.filter(|consumer| consumer.subject == subject && !consumer.is_from_devices).collect()
    };
    let mut doses = Vec::new();
    for subject in
        [Order::PENDING, OrderDue::SUBJECT, Order::SHIPPED, Order::COMPLETED, StockConsumed::SUBJECT, StockLow::SUBJECT]
    {
        for body in ["not json at all", "{}", ""] {
            doses.push(Poison { subject, body: body.into(), consumers: listeners(subject) });
        }
    }
    let barcode: Barcode = "2000000000015".parse()?;
    let order = Order {
        id: OrderId(Uuid::now_v7()),
        ssd_id: NOBODYS,
        product_id: barcode.clone(),
        timestamp: clock.now(),
        quantity: Quantity::try_from(1)?,
        status: OrderStatus::Completed,
    };
    // An order nobody placed, for a device nobody has; and the same on a subject it does not belong on.
    for subject in [Order::COMPLETED, Order::PENDING] {
        doses.push(Poison { subject, body: serde_json::to_vec(&order)?.into(), consumers: listeners(subject) });
    }
    let report = StockConsumed {
        id: Uuid::now_v7().to_string(),
        ssd_id: NOBODYS,
        barcode,
        quantity: Quantity::try_from(1)?,
        timestamp: clock.now(),
    };
    let subject = report.subject();
    doses.push(Poison { subject, body: serde_json::to_vec(&report)?.into(), consumers: listeners(subject) });
    Ok(doses)
}

/// The tag of a dead letter that was poison.
pub(super) fn tag_of(letter: &dead::DeadLetter) -> Option<&str> {
    letter.headers.iter().find(|(name, _)| name == TAG).map(|(_, tag)| tag.as_str())
}

/// Fills the storage that the broker may use, to the last brick; ends early where the broker goes away.
pub(super) async fn fill_broker(bus: &Bus) -> anyhow::Result<()> {
    let config = Config {
        name: FILLER.to_owned(),
        subjects: vec!["filler".to_owned()],
        discard: DiscardPolicy::New,
        ..Config::default()
    };
    again_and_again("fill the broker's storage", || bus.jetstream.create_or_update_stream(config.clone())).await?;
    fill(bus, "filler", BRICK, usize::MAX).await;
    Ok(())
}

/// Makes room again.
pub(super) async fn clear_broker(bus: &Bus) -> anyhow::Result<()> {
    delete_stream(bus, FILLER).await
}

/// Fills a stream once over, with what no consumer can use: its oldest messages go, or it is full.
pub(super) async fn fill_stream(bus: &Bus, name: &str, room: u32) -> anyhow::Result<()> {
    let Some(stream) = streams::STREAMS.iter().find(|stream| stream.name == name) else { return Ok(()) };
    let subject = match *stream {
        // Neither has a consumer.
        streams::ORDERS => "orders.timer.filler.filler",
        streams::USERS => "users.filler",
        streams::DEAD_LETTERS => FILLER_OF_DEAD_LETTERS,
        // Devices may send it, so it is junk.
        _ => StockConsumed::SUBJECT,
    };
    let bytes = usize::try_from(room)? * 1024 * 1024 * usize::from(stream.share) / 100;
    fill(bus, subject, BRICK, bytes / BRICK + BRICKS).await;
    if stream.refuses_when_full {
        // What is smaller than a brick fits still.
        fill(bus, subject, SMALL_BRICK, BRICKS * BRICK / SMALL_BRICK).await;
    }
    Ok(())
}

/// How many messages of a stream its consumers have not acknowledged; `None` where the broker does not answer.
pub(super) async fn count_unhandled(bus: &Bus, stream: &str) -> Option<u64> {
    let mut unhandled = 0;
    for consumer in streams::CONSUMERS.iter().filter(|consumer| consumer.stream == stream) {
        let waiting = bus.waiting(consumer).await.ok()?;
        unhandled += waiting.pending + waiting.in_hand;
    }
    Some(unhandled)
}

/// The sequence number of the oldest message that a stream holds; `None` where the broker does not answer.
pub(super) async fn find_first(bus: &Bus, stream: &str) -> Option<u64> {
    Some(bus.jetstream.get_stream(stream).await.ok()?.cached_info().state.first_sequence)
}

/// Takes what filled the dead letters out again; all other streams lose it by themselves.
pub(super) async fn clear_stream(bus: &Bus, name: &str) -> anyhow::Result<()> {
    if name != streams::DEAD_LETTERS.name {
        return Ok(());
    }
    again_and_again("clear the dead letters", || async move {
        let stream = bus.jetstream.get_stream(name).await.map_err(|error| error.to_string())?;
        stream.purge().filter(FILLER_OF_DEAD_LETTERS).await.map_err(|error| error.to_string())
    })
    .await?;
    Ok(())
}

/// Sends bricks of `size` bytes until so many are sent, or the broker takes one no more.
async fn fill(bus: &Bus, subject: &'static str, size: usize, most: usize) {
    let brick = Bytes::from(vec![b'.'; size]);
    let mut sent = 0;
    while sent < most {
        let bricks = (0..BRICKS).map(|_| async { bus.jetstream.publish(subject, brick.clone()).await?.await });
        if futures::future::join_all(bricks).await.iter().any(Result::is_err) {
            return;
        }
        sent += BRICKS;
    }
}

/// Takes all message schedules out of their stream.
pub(super) async fn purge_schedules(bus: &Bus) -> anyhow::Result<()> {
    again_and_again("purge the message schedules", || async {
        let stream = bus.jetstream.get_stream(streams::ORDERS.name).await.map_err(|error| error.to_string())?;
        stream.purge().filter("orders.timer.>").await.map_err(|error| error.to_string())
    })
    .await?;
    Ok(())
}

/// Deletes a stream with all that is in it, and its consumers.
pub(super) async fn delete_stream(bus: &Bus, name: &str) -> anyhow::Result<()> {
    again_and_again("delete a stream", || async {
        match bus.jetstream.delete_stream(name).await {
            Err(error) if !error.to_string().contains("not found") => Err(error),
            _ => Ok(()),
        }
    })
    .await
}

/// Deletes a consumer.
pub(super) async fn delete_consumer(bus: &Bus, name: &str) -> anyhow::Result<()> {
    let Some(consumer) = streams::CONSUMERS.iter().find(|consumer| consumer.name == name) else { return Ok(()) };
    again_and_again("delete a consumer", || async {
        match bus.jetstream.delete_consumer_from_stream(consumer.name, consumer.stream).await {
            Err(error) if !error.to_string().contains("not found") => Err(error),
            _ => Ok(()),
        }
    })
    .await
}

/// Makes streams and consumers that are missing.
pub(super) async fn declare(bus: &Bus, room: u32) -> anyhow::Result<()> {
    let keeping = Keeping { room, ..Keeping::default() };
    again_and_again("make streams and consumers", || async move {
        off_kit::bus::declare(bus, keeping).await.map_err(|error| format!("{error:#}"))
    })
    .await
}

/// What a device can do that is no device: messages with headers almost as large as the broker takes, large bodies, and very
/// many small ones, none of which anybody can use.
pub(super) async fn junk(bus: &Bus) -> usize {
    let mut large = HeaderMap::new();
    large.insert("Junk", "x".repeat(LARGE_HEADER).as_str());
    let kinds = [
        (JUNK / 10, large, Bytes::from_static(b"{")),
        (JUNK / 100, HeaderMap::new(), Bytes::from(vec![b'{'; BRICK])),
        (JUNK, HeaderMap::new(), Bytes::from_static(b"junk")),
    ];
    let mut taken = 0;
    for (count, headers, body) in kinds {
        for _ in 0..count / JUNK_AT_ONCE.min(count) {
            let messages = (0..JUNK_AT_ONCE.min(count)).map(|_| {
                let message = PublishMessage::build().headers(headers.clone()).payload(body.clone());
                async { bus.jetstream.send_publish(StockConsumed::SUBJECT, message).await?.await }
            });
            taken += futures::future::join_all(messages).await.iter().filter(|sent| sent.is_ok()).count();
        }
    }
    taken
}

/// Tries again what fails because the broker is away, or full, just now.
async fn again_and_again<T, E, F>(what: &str, mut attempt: impl FnMut() -> F) -> anyhow::Result<T>
where
    E: std::fmt::Display,
    F: Future<Output = Result<T, E>>,
{
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
    let deadline = Instant::now() + HEALED_WITHIN;
    loop {
        match attempt().await {
            Ok(done) => return Ok(done),
            Err(error) if Instant::now() >= deadline => anyhow::bail!("cannot {what}: {error}"),
            Err(_) => tokio::time::sleep(backoff.pause()).await,
        }
    }
}

/// Publishes until the broker has it.
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
    Err(anyhow::anyhow!("the broker takes no message on {subject}: {last:?}"))
}
