//! Faults in messages: republished, unprocessable and junk messages.

use crate::journal::{self, Journal};
use async_nats::{
    HeaderMap,
    jetstream::{Message, message::PublishMessage},
};
use bytes::Bytes;
use off_events::{
    Barcode, Event, LowBalance, Money, Order, OrderDue, OrderId, OrderStatus, Quantity, SsdId, StockConsumed, StockLow,
    UserId, UserRegistered, headers,
    streams::{self, Consumer},
};
use off_kit::{Bus, Clock, backoff::Backoff, bus::dead_letters};
use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use std::time::Duration;
use tokio::time::Instant;
use uuid::Uuid;

/// Header that identifies a poison message, and later its dead letters.
const TAG_HEADER: &str = "Off-Chaos";

/// A device that is not registered.
const UNKNOWN_DEVICE: SsdId = SsdId(999_999_999);

/// A person who is not registered.
const UNKNOWN_PERSON: UserId = UserId(999_999_999);

/// How many of the newest messages of a stream are republished.
const REPUBLISHED_PER_STREAM: u64 = 400;

/// Small junk messages that a device sends, and how many of them are in flight at once.
const JUNK_MESSAGES: usize = 7000;
const JUNK_BATCH: usize = 700;

/// Size of a large junk body, in bytes. The broker accepts at most one megabyte.
const LARGE_BODY_BYTES: usize = 900 * 1024;

/// Size of a large junk header, in bytes. The broker accepts 64 KiB.
const LARGE_HEADER_BYTES: usize = 65_300;

/// Republishes the newest messages of every subject in random order; returns how many.
pub(crate) async fn republish(bus: &Bus, seed: u64) -> anyhow::Result<usize> {
    let mut old: Vec<Message> = Vec::new();
    for stream in [&streams::ORDERS, &streams::STOCK, &streams::USERS] {
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
    let consumers_of = |subject: &str| -> Vec<Consumer> {
        let consumers = streams::CONSUMERS.into_iter();
        consumers.filter(|consumer| consumer.subject == subject && !consumer.is_from_devices).collect()
    };
    let mut messages = Vec::new();
    for subject in [
        Order::PENDING,
        Order::PAID,
        Order::REFUSED,
        Order::CANCELLED,
        OrderDue::SUBJECT,
        Order::SHIPPED,
        Order::COMPLETED,
        StockConsumed::SUBJECT,
        StockLow::SUBJECT,
        UserRegistered::SUBJECT,
        LowBalance::SUBJECT,
    ] {
        for body in ["not json at all", "{}", ""] {
            messages.push(PoisonMessage { subject, body: body.into(), consumers: consumers_of(subject) });
        }
    }
    let barcode: Barcode = "2000000000015".parse()?;
    let order = Order {
        id: OrderId(Uuid::now_v7()),
        ssd_id: UNKNOWN_DEVICE,
        user_id: UNKNOWN_PERSON,
        barcode: barcode.clone(),
        timestamp: clock.now(),
        quantity: Quantity::try_from(1)?,
        unit_price: Money::from_cents(299)?,
        total: Money::from_cents(299)?,
        status: OrderStatus::Completed,
        refusal: None,
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

/// Publishes junk as a misbehaving device could: messages with headers just below the broker's limit, messages with
/// large bodies, and many small ones. Returns how many the broker accepted.
pub(crate) async fn junk(bus: &Bus) -> usize {
    let mut large = HeaderMap::new();
    large.insert("Junk", "x".repeat(LARGE_HEADER_BYTES).as_str());
    let kinds = [
        (JUNK_MESSAGES / 10, large, Bytes::from_static(b"{")),
        (JUNK_MESSAGES / 100, HeaderMap::new(), Bytes::from(vec![b'{'; LARGE_BODY_BYTES])),
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
