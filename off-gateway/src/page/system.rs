//! `/`: the system as it is now.

use super::{
    Page,
    layout::{Html, Layout, Section},
    texts, time,
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
    /// The field of the counts of orders that says how many are there; empty if none does.
    count: &'static str,
    /// The subject of the events that leave it.
    subject: &'static str,
}

/// In the order in which an order passes them.
const STAGES: [Stage; 6] = [
    Stage { count: "", subject: StockConsumed::SUBJECT },
    Stage { count: "placed", subject: Order::PENDING },
    Stage { count: "pending", subject: Order::PAID },
    Stage { count: "paid", subject: Order::SHIPPED },
    Stage { count: "shipped", subject: Order::COMPLETED },
    Stage { count: "ended", subject: StockLow::SUBJECT },
];

/// `GET /`.
pub(super) async fn show(State(page): State<Page>, caller: Caller) -> Html<SystemPage> {
    Html(SystemPage { layout: Layout::new(&caller, Section::System), state: page.live.system().await, stages: STAGES })
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

    fn faults(&self) -> String {
        self.state.faults.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    }

    fn has_dead_letters(&self) -> bool {
        self.state.dead_letters.is_some_and(|count| count > 0)
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
