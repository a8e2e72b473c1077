//! `/`: the system as it is now.

use super::{
    Page,
    layout::{Html, Layout, Section},
    time,
    viewer::Caller,
};
use crate::{
    board::ServiceState,
    live::{SystemState, TimeToStatus},
};
use askama::Template;
use axum::extract::State;
use off_events::{Order, StockConsumed, StockLow};
use std::sync::Arc;

#[derive(Debug, Template)]
#[template(path = "system.html")]
pub(super) struct SystemPage {
    layout: Layout,
    state: Arc<SystemState>,
    stages: [Stage; 6],
}

/// A stage on the way from a household to its shelf.
#[derive(Debug)]
struct Stage {
    name: &'static str,
    /// What happens there.
    text: &'static str,
    /// The field of the counts of orders that says how many are there; empty if none does.
    count: &'static str,
    /// The subject of the events that leave it.
    subject: &'static str,
}

/// In the order in which an order passes them.
const STAGES: [Stage; 6] = [
    Stage { name: "Households", text: "consume from their shelves", count: "", subject: StockConsumed::SUBJECT },
    Stage { name: "Orders", text: "placed, and stored once", count: "placed", subject: Order::PENDING },
    Stage { name: "Payment", text: "charges the account", count: "pending", subject: Order::PAID },
    Stage { name: "Supplier", text: "packs paid orders", count: "paid", subject: Order::SHIPPED },
    Stage { name: "Delivery", text: "brings shipped orders", count: "shipped", subject: Order::COMPLETED },
    Stage { name: "Shelf", text: "is full again", count: "ended", subject: StockLow::SUBJECT },
];

/// `GET /`.
pub(super) async fn show(State(page): State<Page>, caller: Caller) -> Html<SystemPage> {
    Html(SystemPage { layout: Layout::new(&caller, Section::System), state: page.live.system(), stages: STAGES })
}

impl SystemPage {
    /// How many orders are in a stage, for people.
    fn count(&self, name: &str) -> String {
        let Some(orders) = &self.state.orders else { return "–".to_owned() };
        let count = match name {
            "placed" => orders.placed,
            "pending" => orders.pending,
            "paid" => orders.paid,
            "shipped" => orders.shipped,
            _ => orders.ended,
        };
        grouped(count)
    }

    /// What the count of a stage is, for people.
    fn unit(name: &str) -> &'static str {
        match name {
            "placed" => "placed in all",
            "ended" => "orders have ended",
            _ => "orders here now",
        }
    }

    /// What the rate of a stage is.
    fn rate_unit(subject: &str) -> &'static str {
        match subject {
            StockConsumed::SUBJECT => "consumptions/s",
            Order::PENDING => "orders/s",
            Order::PAID => "paid/s",
            Order::SHIPPED => "shipped/s",
            Order::COMPLETED => "delivered/s",
            StockLow::SUBJECT => "run low/s",
            _ => "/s",
        }
    }

    fn rate(&self, subject: &str) -> String {
        format!("{:.1}", self.state.per_second.get(subject).copied().unwrap_or_default())
    }

    /// How long orders took to a status: half of them, and 99 of 100.
    fn reached(&self, status: &str) -> Option<(String, String, u64)> {
        let TimeToStatus { p50, p99, orders } = *self.state.times.get(status)?;
        let text = |millis: u64| time::duration(millis.try_into().unwrap_or(i64::MAX));
        Some((text(p50), text(p99), orders))
    }

    fn waiting(&self) -> u64 {
        self.state.consumers.iter().map(|consumer| consumer.waiting + consumer.unacknowledged).sum()
    }

    /// Whether all services work.
    fn is_well(&self) -> bool {
        self.state.services.iter().all(|service| service.status == ServiceState::Ok)
    }
}

/// A number with a space between groups of three digits.
pub(super) fn grouped(number: i64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) && !text.ends_with('-') {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_grouped() {
        let texts = [0, 999, 1_000, 1_234_567, -123, -1_234].map(grouped).map(|text| text.replace('\u{202f}', " "));
        assert_eq!(texts, ["0", "999", "1 000", "1 234 567", "-123", "-1 234"]);
    }
}
