//! What JetStream says: where each unfinished order waits.

use super::{Area, Finding, books::Books};
use anyhow::Context;
use futures::TryStreamExt;
use off_events::{
    Order, OrderStatus,
    streams::{self, Consumer},
};
use off_kit::Bus;
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

/// A place where something will move an order on.
type Place = &'static str;

/// The orders found in each place.
#[derive(Debug)]
pub(super) struct Whereabouts {
    places: BTreeMap<Place, BTreeSet<Uuid>>,
    counts: BTreeMap<Place, usize>,
}

const IN_OUTBOX: Place = "in the outbox, on the way to the bus";
const TO_SUPPLIER: Place = "on the way to the supplier";
const AT_SUPPLIER: Place = "at the supplier, the wait is kept by JetStream";
const DUE: Place = "due, and the supplier or the delivery firm has yet to say so";
const SHIPPED_NEWS: Place = "shipped, and the orders service has yet to note it";
const TO_DELIVERY: Place = "shipped, on the way to the delivery firm";
const AT_DELIVERY: Place = "with the delivery firm, the wait is kept by JetStream";
const COMPLETED_NEWS: Place = "arrived, and the orders service has yet to note it";
const TO_SHELF: Place = "arrived, on the way to the shelf";

impl Whereabouts {
    /// Reads what every consumer has yet to handle, and every wait.
    pub(super) async fn read(bus: &Bus) -> anyhow::Result<Self> {
        let mut places = BTreeMap::new();
        for (place, consumer) in [
            (TO_SUPPLIER, streams::SUPPLIER),
            (DUE, streams::DUE),
            (SHIPPED_NEWS, streams::ORDERS_SHIPPED),
            (TO_DELIVERY, streams::DELIVERY),
            (COMPLETED_NEWS, streams::ORDERS_COMPLETED),
            (TO_SHELF, streams::SHELVES_DELIVERED),
        ] {
            places.insert(place, unhandled(bus, &consumer).await?);
        }
        places.insert(AT_SUPPLIER, waits(bus, OrderStatus::Shipped).await?);
        places.insert(AT_DELIVERY, waits(bus, OrderStatus::Completed).await?);
        Ok(Self { places, counts: BTreeMap::new() })
    }

    /// Finds a place for every order that is on its way; those without one are findings.
    pub(super) fn place_all(&mut self, books: &Books) -> Vec<Finding> {
        self.places.insert(IN_OUTBOX, books.in_outbox.clone());
        let mut findings = Vec::new();
        for (id, status) in &books.unfinished {
            // News travels to two readers: an order that is pending in the books may be with the delivery firm already.
            let expected: &[Place] = match status {
                OrderStatus::Pending => &[IN_OUTBOX, TO_SUPPLIER, AT_SUPPLIER, DUE, SHIPPED_NEWS, COMPLETED_NEWS],
                _ => &[TO_DELIVERY, AT_DELIVERY, DUE, COMPLETED_NEWS],
            };
            if !self.place(*id, expected) {
                findings.push(Finding {
                    area: Area::Orders,
                    text: format!("order {id} is {status} and nothing moves it on"),
                });
            }
        }
        for id in &books.undelivered {
            if !self.place(*id, &[TO_SHELF]) {
                let text = format!("order {id} is completed and was never delivered");
                findings.push(Finding { area: Area::Deliveries, text });
            }
        }
        for id in &books.delivered_early {
            if !self.places.get(COMPLETED_NEWS).is_some_and(|orders| orders.contains(id)) {
                let text = format!("order {id} was delivered, and the orders service never hears of it");
                findings.push(Finding { area: Area::Orders, text });
            }
        }
        findings
    }

    fn place(&mut self, id: Uuid, expected: &[Place]) -> bool {
        let found = expected.iter().find(|&&place| self.places.get(place).is_some_and(|orders| orders.contains(&id)));
        if let Some(&place) = found {
            *self.counts.entry(place).or_default() += 1;
        }
        found.is_some()
    }

    /// How many orders wait where.
    pub(super) fn counts(&self) -> impl Iterator<Item = (Place, usize)> {
        self.counts.iter().map(|(&place, &count)| (place, count))
    }
}

/// The orders in the messages that `consumer` has not acknowledged.
async fn unhandled(bus: &Bus, consumer: &Consumer) -> anyhow::Result<BTreeSet<Uuid>> {
    let floor = bus.waiting(consumer).await?.ack_floor;
    let messages = bus.read(consumer.stream, consumer.subject, floor + 1).await?;
    let orders = messages.iter().filter_map(|message| serde_json::from_slice::<Order>(&message.payload).ok());
    Ok(orders.map(|order| order.id.0).collect())
}

/// The orders that wait for `next`: each has a message schedule on a subject of its own.
async fn waits(bus: &Bus, next: OrderStatus) -> anyhow::Result<BTreeSet<Uuid>> {
    let stream = bus.jetstream.get_stream_no_info(streams::ORDERS.name).await?;
    let subjects = stream.info_with_subjects(format!("orders.timer.{next}.*")).await;
    let subjects: Vec<(String, usize)> =
        subjects.context("cannot list the waits in JetStream")?.try_collect().await.context("cannot list the waits")?;
    Ok(subjects.iter().filter_map(|(subject, _)| subject.rsplit('.').next()?.parse().ok()).collect())
}
