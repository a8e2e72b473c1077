//! Messages that should not be: old ones said again, and such as nobody can handle.

use super::journal::Journal;
use anyhow::Context;
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
use off_kit::{Bus, Clock, backoff::Backoff, bus::dead};
use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use std::time::Duration;
use uuid::Uuid;

/// Names the poison, so that its dead letters are known again.
const TAG: &str = "Off-Chaos";

/// A device nobody has.
const NOBODYS: SsdId = SsdId(999_999_999);

/// The newest messages of a stream that are said again.
const REPEATED: u64 = 400;

/// The stream that fills the broker's disk.
const FILLER: &str = "FILLER";

/// What fills it, in bytes; the broker takes a megabyte at most.
const BRICK: usize = 900 * 1024;

/// Bricks that are on their way at once.
const BRICKS: usize = 16;

/// Says the newest messages of every subject again, in another order, as news from long ago.
pub(super) async fn repeat(bus: &Bus, seed: u64) -> anyhow::Result<usize> {
    let mut old: Vec<Message> = Vec::new();
    for stream in [&streams::ORDERS, &streams::STOCK] {
        let newest = bus.jetstream.get_stream(stream.name).await?.cached_info().state.last_sequence;
        for consumer in streams::CONSUMERS.iter().filter(|consumer| consumer.stream == stream.name) {
            old.extend(bus.read(stream.name, consumer.subject, newest.saturating_sub(REPEATED)).await?);
        }
    }
    old.retain(|message| message.headers.as_ref().is_none_or(|map| map.get(TAG).is_none()));
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
        {
            let mut pages = journal.lock();
            for consumer in &dose.consumers {
                pages.poison.insert((consumer.name.to_owned(), tag.clone()), dose.subject.to_owned());
            }
        }
        let mut map = HeaderMap::new();
        map.insert(headers::NATS_MSG_ID, tag.as_str());
        map.insert(TAG, tag.as_str());
        publish(bus, dose.subject, map, dose.body).await?;
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

/// Fills the disk that the broker may use, to the last brick.
pub(super) async fn fill_disk(bus: &Bus) -> anyhow::Result<()> {
    let config = Config {
        name: FILLER.to_owned(),
        subjects: vec!["filler".to_owned()],
        discard: DiscardPolicy::New,
        ..Config::default()
    };
    let made = bus.jetstream.create_or_update_stream(config).await;
    made.context("the broker's disk cannot be filled")?;
    let brick = Bytes::from(vec![b'.'; BRICK]);
    loop {
        let sent = futures::future::join_all(
            (0..BRICKS).map(|_| async { bus.jetstream.publish("filler", brick.clone()).await?.await }),
        );
        if sent.await.iter().any(Result::is_err) {
            return Ok(());
        }
    }
}

/// Makes room again.
pub(super) async fn clear_disk(bus: &Bus) -> anyhow::Result<()> {
    let mut backoff = Backoff::default();
    for _ in 0..20 {
        match bus.jetstream.delete_stream(FILLER).await {
            Ok(_) => return Ok(()),
            Err(error) if error.to_string().contains("not found") => return Ok(()),
            Err(_) => tokio::time::sleep(backoff.pause()).await,
        }
    }
    anyhow::bail!("the broker's disk cannot be cleared")
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
