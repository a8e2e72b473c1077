//! Compares the orders in Postgres with the requests of clients and devices.

use super::Verdict;
use crate::{
    journal::{Entries, Outcome, Request},
    store,
};
use anyhow::Context;
use off_events::{Event, SsdId, StockLow, streams};
use off_kit::Bus;
use sqlx::PgPool;
use std::collections::{HashMap, HashSet};
use uuid::Uuid;

/// An order as stored in Postgres, with its deliveries.
pub(super) struct StoredOrder {
    id: Uuid,
    request: Request,
    is_complete: bool,
    is_in_order: bool,
    is_shipping_known: bool,
    deliveries: i64,
}

/// Reads all orders, by their idempotency key.
pub(super) async fn read_orders(db: &PgPool) -> anyhow::Result<HashMap<String, StoredOrder>> {
    let rows = store::read_orders(db).await.context("cannot read the orders")?;
    rows.into_iter()
        .map(|row| {
            let (ssd_id, barcode) = (SsdId(row.ssd_id), row.barcode.parse()?);
            let request = Request { ssd_id, barcode, quantity: row.quantity.into() };
            // All clients here send an idempotency key, so an order without one was requested by no client.
            let key = if row.key.is_empty() { format!("no key, order {}", row.id) } else { row.key };
            let order = StoredOrder {
                id: row.id,
                request,
                is_complete: row.is_complete,
                is_in_order: row.is_in_order,
                is_shipping_known: row.is_shipping_known,
                deliveries: row.deliveries,
            };
            Ok((key, order))
        })
        .collect()
}

/// Ids of all published `stock.low` events. Devices use them as keys of their orders.
pub(super) async fn read_low_stock_ids(bus: &Bus) -> anyhow::Result<HashSet<String>> {
    let messages = bus.read(streams::STOCK.name, StockLow::SUBJECT, 1).await?;
    let events = messages.iter().filter_map(|message| serde_json::from_slice::<StockLow>(&message.payload).ok());
    Ok(events.map(|event| event.event_id()).collect())
}

/// Every order that was answered with 201 is stored, completed and delivered once.
pub(super) fn check_answered(orders: &HashMap<String, StoredOrder>, entries: &Entries) -> Verdict {
    let mut findings = entries.contradictions.clone();
    let (mut answered, mut without_shipping) = (0, 0);
    for (key, (request, outcome)) in &entries.orders {
        let Outcome::Accepted(id) = outcome else { continue };
        answered += 1;
        let problem = match orders.get(key) {
            None => "is not stored",
            Some(order) if order.id != *id => "is stored under another id",
            Some(order) if order.request != *request => "is stored with another device, product or quantity",
            Some(order) if !order.is_complete => "is not completed",
            Some(order) if !order.is_in_order => "has timestamps in an impossible order",
            Some(order) if order.deliveries != 1 => "was not delivered exactly once as ordered",
            Some(order) if order.is_shipping_known => continue,
            // Only the broker knows the time of shipping until `orders.shipped` is handled.
            Some(_) if entries.has_lost(streams::ORDERS.name) => {
                without_shipping += 1;
                continue;
            }
            Some(_) => "is completed without a time of shipping",
        };
        findings.push(format!("order {id} ({key}) was answered with 201 and {problem}"));
    }
    let lost = match without_shipping {
        0 => String::new(),
        count => format!("; the broker's loss took the time of shipping of {count}"),
    };
    let claim =
        format!("each of {answered} orders answered with 201 is stored, completed and delivered exactly once{lost}");
    Verdict::new("answered", claim, findings)
}

/// Every stored order was requested by a client or a device, and no request was rejected.
pub(super) fn check_unrequested(
    orders: &HashMap<String, StoredOrder>,
    entries: &Entries,
    low_stock_ids: &HashSet<String>,
) -> Verdict {
    let mut findings = Vec::new();
    let (mut unknown, mut restocked) = (0, 0);
    for (key, order) in orders {
        let problem = match entries.orders.get(key) {
            None if low_stock_ids.contains(key) || !entries.losses.is_empty() && is_key_of_low(key, &order.request) => {
                restocked += 1;
                if order.is_complete && order.deliveries == 1 {
                    continue;
                }
                "was requested by a device but is not completed and delivered exactly once"
            }
            None => "was not requested",
            Some((request, _)) if order.request != *request => "has another device, product or quantity than requested",
            Some((_, Outcome::Rejected(_))) => "was rejected but is stored",
            Some((_, Outcome::Unknown)) if !order.is_complete || order.deliveries != 1 => {
                "got no response and is not completed and delivered exactly once"
            }
            Some((_, Outcome::Unknown)) => {
                unknown += 1;
                continue;
            }
            Some((_, Outcome::Accepted(_))) => continue,
        };
        findings.push(format!("order {} ({key}) {problem}", order.id));
    }
    findings.extend(entries.orders.iter().filter_map(|(key, (_, outcome))| match outcome {
        Outcome::Rejected(reason) => Some(format!("{key} was rejected: {reason}")),
        _ => None,
    }));
    let unanswered = entries.orders.values().filter(|(_, outcome)| *outcome == Outcome::Unknown).count();
    let claim = format!(
        "no order exists without a request; of {unanswered} requests without a response, {unknown} orders exist, each \
         once; devices requested {restocked} orders"
    );
    Verdict::new("unrequested", claim, findings)
}

/// Whether this is the id of a `stock.low` of that device and product. Used when the broker may have lost the event.
fn is_key_of_low(key: &str, request: &Request) -> bool {
    key.starts_with(&format!("low:{}:{}:", request.ssd_id, request.barcode))
}
