//! Compares the dead letters with the poison messages, and replays one.

use super::Verdict;
use crate::{
    journal::{Entries, Poison},
    messages::tag_of,
    store,
};
use anyhow::Context;
use off_events::{Money, Order, OrderId, OrderStatus, Quantity, SsdId, UserId, streams};
use off_kit::{
    Bus,
    bus::dead_letters::{self, DeadLetter},
};
use sqlx::PgPool;
use std::{collections::BTreeMap, time::Duration};

/// The dead letters are exactly the poison messages, one for each consumer.
pub(super) fn check_dead_letters(entries: &Entries, letters: &[DeadLetter]) -> Verdict {
    let mut findings = Vec::new();
    let mut dead_lettered: BTreeMap<(String, String), usize> = BTreeMap::new();
    for letter in letters {
        match tag_of(letter) {
            Some(tag) => *dead_lettered.entry((letter.consumer.clone(), tag.to_owned())).or_default() += 1,
            None => findings.push(format!("dead letter {} is not a poison message: {}", letter.number, letter.reason)),
        }
        if letter.reason.is_empty() {
            findings.push(format!("dead letter {} has no reason", letter.number));
        }
    }
    for ((consumer, tag), Poison { subject, published }) in &entries.poison {
        match dead_lettered.remove(&(consumer.clone(), tag.clone())) {
            Some(1) => {}
            Some(_) if entries.recreated.contains(consumer) => {}
            // Lost before it was handled, or lost as a dead letter.
            None if streams::stream_of(subject)
                .map(|stream| [stream.name, streams::DEAD_LETTERS.name])
                .is_some_and(|streams| entries.may_have_lost(&streams, published)) => {}
            Some(times) => findings.push(format!("{tag} on {subject} has {times} dead letters of {consumer}")),
            None => findings.push(format!("{tag} on {subject} has no dead letter of {consumer}")),
        }
    }
    let unexpected = dead_lettered.keys();
    findings.extend(unexpected.map(|(consumer, tag)| format!("{tag} has an unexpected dead letter of {consumer}")));
    let claim = format!("the {} dead letters are exactly the poison messages that were sent", letters.len());
    Verdict::new("dead letters", claim, findings)
}

/// Replays one dead letter with a repaired payload. It must be handled and removed from the dead letters.
pub(crate) async fn check_replay(db: &PgPool, bus: &Bus, letters: &[DeadLetter]) -> anyhow::Result<Verdict> {
    let claim = "a repaired dead letter is replayed and handled";
    let Some(letter) = letters.iter().find(|letter| letter.consumer == streams::ORDERS_PAID.name) else {
        return Ok(Verdict::new("replay", "there was no dead letter to repair", Vec::new()));
    };
    // Clears the time of payment of an order; the repaired `orders.paid` must restore it.
    let order = store::clear_payment(db).await?;
    let (unit_price, quantity) = (Money::from_cents(order.unit_price)?, Quantity::try_from(i64::from(order.quantity))?);
    let repaired = Order {
        id: OrderId(order.id),
        ssd_id: SsdId(order.ssd_id),
        user_id: UserId(order.user_id),
        barcode: order.barcode.parse()?,
        timestamp: order.placed_at,
        quantity,
        unit_price,
        total: unit_price.checked_mul(quantity).context("the order is too dear")?,
        status: OrderStatus::Paid,
        refusal: None,
    };
    dead_letters::replay(bus, letter.number, Some(serde_json::to_vec(&repaired)?.into())).await?;
    let mut findings = Vec::new();
    if !bus.catch_up(&[streams::ORDERS_PAID], Duration::from_secs(10)).await? {
        findings.push("the repaired message was not handled".to_owned());
    }
    if !store::is_payment_known(db, order.id).await? {
        findings.push(format!("the repaired message did not set the time of payment of order {}", order.id));
    }
    if dead_letters::find(bus, letter.number).await.is_ok() {
        findings.push(format!("dead letter {} is still there", letter.number));
    }
    Ok(Verdict::new("replay", claim, findings))
}
