//! Compares the orders in Postgres with the requests of clients and devices.

use super::Verdict;
use crate::{
    journal::{Entries, Outcome, Request},
    store::{self, OrderRow},
};
use anyhow::Context;
use off_events::{Event, OrderStatus, SsdId, StockLow, streams};
use off_kit::Bus;
use sqlx::PgPool;
use std::collections::{HashMap, HashSet};

/// An order as stored in Postgres, with its delivery, its money and its letters.
pub(super) struct StoredOrder {
    request: Request,
    pub(super) status: OrderStatus,
    pub(super) row: OrderRow,
}

impl StoredOrder {
    /// Why it has not ended as it must: delivered and paid for, or refused, or cancelled; and its person told so.
    fn problem(&self) -> Option<&'static str> {
        let OrderRow { deliveries, charges, earnings, refunds, refusals, .. } = self.row;
        let money = (charges, earnings, refunds, refusals);
        let letters: Vec<&str> = self.row.letters.iter().map(String::as_str).collect();
        Some(match self.status {
            OrderStatus::Pending | OrderStatus::Paid | OrderStatus::Shipped => "has not ended",
            _ if !self.row.is_in_order => "has timestamps in an impossible order",
            _ if self.row.wrong_transfers > 0 => "has a transfer with another amount or person",
            OrderStatus::Completed if deliveries != 1 => "was not delivered exactly once as ordered",
            OrderStatus::Completed if money != (1, 1, 0, 0) => "was not charged and earned exactly once",
            OrderStatus::Completed if !self.row.is_shipping_known => "is completed without a time of shipping",
            OrderStatus::Completed if letters != ["paid", "delivered"] => "is completed, but has other letters",
            OrderStatus::Completed => return None,
            _ if deliveries != 0 => "was delivered although it was refused or cancelled",
            _ if self.row.is_shipping_known => "was shipped although it was refused or cancelled",
            OrderStatus::Refused if money != (0, 0, 0, 1) => "is refused, but not by the billing service",
            // Refunded, or never charged.
            OrderStatus::Cancelled if !matches!(money, (1, 0, 1, 0) | (0, 0, 0, 1)) => {
                "is cancelled, but neither refunded nor kept from being charged"
            }
            OrderStatus::Refused if letters != ["refused"] => "is refused, but has other letters",
            // The billing service may have charged or refused it just before the cancellation, and the person knows both.
            OrderStatus::Cancelled if !matches!(letters[..], ["cancelled"] | ["paid" | "refused", "cancelled"]) => {
                "is cancelled, but has other letters"
            }
            OrderStatus::Refused | OrderStatus::Cancelled => return None,
        })
    }
}

/// Reads all orders, by their idempotency key.
pub(super) async fn read_orders(db: &PgPool) -> anyhow::Result<HashMap<String, StoredOrder>> {
    let rows = store::read_orders(db).await.context("cannot read the orders")?;
    rows.into_iter()
        .map(|row| {
            let (ssd_id, barcode) = (SsdId(row.ssd_id), row.barcode.parse()?);
            let request = Request { ssd_id, barcode, quantity: row.quantity.into() };
            // All clients here send an idempotency key, so an order without one was requested by no client.
            let key = if row.key.is_empty() { format!("no key, order {}", row.id) } else { row.key.clone() };
            Ok((key, StoredOrder { request, status: row.status.parse()?, row }))
        })
        .collect()
}

/// Ids of all published `stock.low` events. Devices use them as keys of their orders.
pub(super) async fn read_low_stock_ids(bus: &Bus) -> anyhow::Result<HashSet<String>> {
    let messages = bus.read(streams::STOCK.name, StockLow::SUBJECT, 1).await?;
    let events = messages.iter().filter_map(|message| serde_json::from_slice::<StockLow>(&message.payload).ok());
    Ok(events.map(|event| event.event_id()).collect())
}

/// Every order that was answered with 201 is stored, and ended as it must.
pub(super) fn check_answered(orders: &HashMap<String, StoredOrder>, entries: &Entries) -> Verdict {
    let mut findings = entries.contradictions.clone();
    let (mut answered, mut without_payment) = (0, 0);
    for (key, (request, outcome)) in &entries.orders {
        let Outcome::Accepted(id) = outcome else { continue };
        answered += 1;
        let problem = match orders.get(key) {
            None => "is not stored",
            Some(order) if order.row.id != *id => "is stored under another id",
            Some(order) if order.request != *request => "is stored with another device, product or quantity",
            Some(order) => match order.problem() {
                Some(problem) => problem,
                None if order.status != OrderStatus::Completed || order.row.is_payment_known => continue,
                // Only the broker brings the time of payment to the orders service.
                None if entries.has_lost(streams::ORDERS.name) => {
                    without_payment += 1;
                    continue;
                }
                None => "is completed without a time of payment",
            },
        };
        findings.push(format!("order {id} ({key}) was answered with 201 and {problem}"));
    }
    let lost = match without_payment {
        0 => String::new(),
        count => format!("; the broker's loss took the time of payment of {count}"),
    };
    let count = |status| orders.values().filter(|order| order.status == status).count();
    let claim = format!(
        "each of {answered} orders answered with 201 is stored and ended once; of all orders {} were delivered and paid \
         for, {} refused, {} cancelled{lost}",
        count(OrderStatus::Completed),
        count(OrderStatus::Refused),
        count(OrderStatus::Cancelled)
    );
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
                match order.problem() {
                    None => continue,
                    Some(problem) => format!("was requested by a device and {problem}"),
                }
            }
            None => "was not requested".to_owned(),
            Some((request, _)) if order.request != *request => {
                "has another device, product or quantity than requested".to_owned()
            }
            Some((_, Outcome::Rejected(_))) => "was rejected but is stored".to_owned(),
            Some((_, Outcome::Unknown)) => match order.problem() {
                None => {
                    unknown += 1;
                    continue;
                }
                Some(problem) => format!("got no response and {problem}"),
            },
            Some((_, Outcome::Accepted(_))) => continue,
        };
        findings.push(format!("order {} ({key}) {problem}", order.row.id));
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
