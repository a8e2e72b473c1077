//! The story of an order, put together from what the services and the broker know.

use crate::page::{texts, time};
use chrono::{DateTime, Utc};
use off_events::{
    Money, Order, OrderDue, OrderStatus,
    headers::{self, CE_TIME, TRACEPARENT},
};
use serde::Deserialize;
use std::collections::BTreeMap;

/// An order with its history, as the orders service answers.
#[derive(Debug, Deserialize)]
pub(super) struct OrderFacts {
    #[serde(flatten)]
    pub(super) order: Order,
    pub(super) idempotency_key: Option<String>,
    pub(super) history: Vec<Step>,
    /// Each time when a status was published again because the order was overdue.
    pub(super) announced_again: Vec<Step>,
}

/// A status that the order reached.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(super) struct Step {
    pub(super) status: OrderStatus,
    pub(super) at: DateTime<Utc>,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Messages {
    pub(super) messages: Vec<Message>,
}

/// A message as its stream holds it.
#[derive(Debug, Deserialize)]
pub(super) struct Message {
    stream: String,
    sequence: u64,
    subject: String,
    stored_at: DateTime<Utc>,
    headers: BTreeMap<String, String>,
    data: serde_json::Value,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Transfers {
    pub(super) transfers: Vec<Transfer>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Transfer {
    kind: String,
    amount: Money,
    at: DateTime<Utc>,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Letters {
    pub(super) letters: Vec<Letter>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Letter {
    kind: String,
    subject: String,
    text: String,
    written_at: DateTime<Utc>,
}

/// What an order changed on its shelf.
#[derive(Debug, Deserialize)]
pub(super) struct Delivery {
    quantity: i64,
    delivered_at: DateTime<Utc>,
    before: i64,
    after: i64,
}

/// Everything that is known about an order.
#[derive(Debug)]
pub(super) struct Story {
    pub(super) facts: OrderFacts,
    pub(super) messages: Vec<Message>,
    pub(super) transfers: Vec<Transfer>,
    pub(super) letters: Vec<Letter>,
    pub(super) delivery: Option<Delivery>,
}

/// One thing that happened.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) at: DateTime<Utc>,
    /// What it is called on the page, so that a detail that somebody opened stays open; empty without details.
    pub(crate) id: String,
    /// The kind of thing: `request`, `event`, `wait`, `money`, `shelf` or `letter`.
    pub(crate) kind: &'static str,
    pub(crate) title: String,
    /// What is known about it, by name.
    pub(crate) facts: Vec<(&'static str, String)>,
    /// Where its trace can be seen.
    pub(crate) trace: Option<String>,
    /// A text to read.
    pub(crate) text: Option<String>,
    /// The headers and the payload of a message.
    pub(crate) raw: Option<String>,
    /// Whether nothing follows after it.
    pub(crate) is_last_letter: bool,
}

impl Entry {
    fn new(at: DateTime<Utc>, kind: &'static str, title: impl Into<String>) -> Self {
        let (title, facts, id) = (title.into(), Vec::new(), String::new());
        Self { at, id, kind, title, facts, trace: None, text: None, raw: None, is_last_letter: false }
    }
}

impl Story {
    /// All that happened, in its order. `trace_url` shows a trace where it has `{trace_id}`.
    pub(super) fn entries(&self, trace_url: Option<&str>) -> Vec<Entry> {
        let mut entries = vec![self.request(trace_url)];
        entries.extend(self.facts.announced_again.iter().map(Step::entry));
        entries.extend(self.messages.iter().map(Message::entry));
        entries.extend(self.transfers.iter().map(Transfer::entry));
        entries.extend(self.letters.iter().map(Letter::entry));
        // The time of a delivery is that of the end of the wait, and its effect follows from the event.
        let completed = self.messages.iter().find(|message| message.subject == Order::COMPLETED);
        let completed = completed.map(|message| message.stored_at);
        entries.extend(self.delivery.iter().map(|delivery| delivery.entry(completed)));
        // A stable sort: what has the same time stays in the order of the way that it took.
        entries.sort_by_key(|entry| entry.at);
        entries
    }

    /// The request that placed the order, as far as it is stored.
    fn request(&self, trace_url: Option<&str>) -> Entry {
        let order = &self.facts.order;
        let mut entry = Entry::new(order.timestamp, "request", texts::PLACED);
        entry.facts.push((texts::PRICE, texts::price(order)));
        if let Some(key) = &self.facts.idempotency_key {
            entry.facts.push((texts::IDEMPOTENCY_KEY, key.clone()));
        }
        let trace = self.messages.iter().find_map(|message| message.headers.get(TRACEPARENT));
        if let Some(id) = trace.and_then(|traceparent| traceparent.split('-').nth(1)) {
            entry.facts.push((texts::TRACE, id.to_owned()));
            entry.trace = trace_url.map(|url| url.replace("{trace_id}", id));
        }
        entry
    }
}

impl Step {
    /// The entry of an order that was announced again.
    fn entry(&self) -> Entry {
        Entry::new(self.at, "wait", texts::announced_again(self.status.subject()))
    }
}

impl Message {
    /// When an order reached a status: when the broker stored its first event, or by its own time without it.
    pub(super) fn reached(messages: &[Self], step: &Step) -> DateTime<Utc> {
        let stored = messages.iter().filter(|message| message.subject == step.status.subject());
        stored.map(|message| message.stored_at).min().map_or(step.at, |stored_at| stored_at.max(step.at))
    }

    fn entry(&self) -> Entry {
        // Of a wait, the status that the order has after it.
        let next = &self.data["status"];
        let promised = self.headers.get(CE_TIME).and_then(|time| time.parse::<DateTime<Utc>>().ok());
        let mut entry = if self.subject == OrderDue::SUBJECT {
            let mut entry = Entry::new(self.stored_at, "wait", texts::wait_is_over(next));
            if let Some(promised) = promised {
                let late = (self.stored_at - promised).num_milliseconds();
                entry.facts.push((texts::PROMISED, time::to_second(&promised)));
                entry.facts.push((texts::LATE_BY, time::duration(late.max(0))));
            }
            entry
        } else if self.subject.starts_with(OrderDue::SCHEDULE_PREFIX) {
            let mut entry = Entry::new(self.stored_at, "wait", texts::waits(next));
            if let Some(promised) = promised {
                entry.facts.push((texts::PROMISED_UNTIL, time::to_second(&promised)));
            }
            entry
        } else {
            Entry::new(self.stored_at, "event", self.subject.clone())
        };
        entry.id = format!("message-{}", self.sequence);
        entry.facts.push((texts::STORED_AS, format!("{} {}", self.stream, self.sequence)));
        for (name, header) in
            [(texts::ANNOUNCED_AGAIN, headers::ANNOUNCED_AGAIN), (texts::DELIVERIES, headers::DELIVERIES)]
        {
            if let Some(value) = self.headers.get(header) {
                entry.facts.push((name, value.clone()));
            }
        }
        let headers = self.headers.iter().map(|(name, value)| format!("{name}: {value}\n"));
        let payload = serde_json::to_string_pretty(&self.data).unwrap_or_default();
        entry.raw = Some(format!("{}\n{payload}", headers.collect::<String>()));
        entry
    }
}

impl Transfer {
    pub(super) fn is(&self, kind: &str) -> bool {
        self.kind == kind
    }

    fn entry(&self) -> Entry {
        Entry::new(self.at, "money", texts::transfer_of_order(&self.kind, self.amount))
    }
}

impl Delivery {
    /// The entry, not before the order was `completed`.
    fn entry(&self, completed: Option<DateTime<Utc>>) -> Entry {
        let Self { quantity, delivered_at, before, after } = self;
        let at = completed.map_or(*delivered_at, |at| at.max(*delivered_at));
        Entry::new(at, "shelf", texts::delivered(*quantity, *before, *after))
    }
}

impl Letter {
    fn entry(&self) -> Entry {
        let mut entry = Entry::new(self.written_at, "letter", texts::letter_was_written(&self.subject));
        entry.id = format!("letter-{}", self.kind);
        entry.text = Some(self.text.clone());
        entry.is_last_letter = matches!(self.kind.as_str(), "delivered" | "refused" | "cancelled");
        entry
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const ID: &str = "01890a5d-ac96-774b-bcce-b302099a8057";

    fn order(status: &str) -> serde_json::Value {
        let money = |amount: i64| json!({"amount": amount, "currency": "EUR"});
        json!({
            "id": ID, "ssd_id": 7, "user_id": 1, "barcode": "2000000000015", "timestamp": "2026-01-01T10:00:00Z",
            "quantity": 2, "unit_price": money(150), "total": money(300), "status": status,
        })
    }

    #[test]
    fn the_entries_are_in_the_order_in_which_they_happened() {
        let mut facts = order("shipped");
        facts["history"] = json!([
            {"status": "pending", "at": "2026-01-01T10:00:00Z"}, {"status": "shipped", "at": "2026-01-01T10:00:28Z"}
        ]);
        facts["announced_again"] = json!([{"status": "paid", "at": "2026-01-01T10:00:29Z"}]);
        let message = |subject: &str, second: u32, time: &str, status: &str| {
            json!({
                "stream": "S", "sequence": second, "subject": subject, "stored_at": format!("2026-01-01T10:00:{second:02}Z"),
                "headers": {"ce-time": time, "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"},
                "data": order(status),
            })
        };
        let messages = json!([
            message(Order::PENDING, 1, "2026-01-01T10:00:00Z", "pending"),
            message(OrderDue::SUBJECT, 30, "2026-01-01T10:00:28Z", "shipped"),
            message(Order::SHIPPED, 31, "2026-01-01T10:00:28Z", "shipped"),
        ]);
        let story = Story {
            facts: serde_json::from_value(facts).unwrap(),
            messages: serde_json::from_value(messages).unwrap(),
            transfers: serde_json::from_value(json!([
                {"kind": "charge", "amount": {"amount": 300, "currency": "EUR"}, "at": "2026-01-01T10:00:02Z"}
            ]))
            .unwrap(),
            letters: serde_json::from_value(json!([
                {"kind": "paid", "subject": "Paid", "text": "…", "written_at": "2026-01-01T10:00:03Z"}
            ]))
            .unwrap(),
            delivery: None,
        };
        assert_eq!(Message::reached(&story.messages, &story.facts.history[1]), story.messages[2].stored_at);
        let entries = story.entries(Some("http://traces.example/{trace_id}"));
        let kinds: Vec<_> = entries.iter().map(|entry| entry.kind).collect();
        assert_eq!(kinds, ["request", "event", "money", "letter", "wait", "wait", "event"]);
        assert_eq!(entries[0].trace.as_deref(), Some("http://traces.example/0af7651916cd43dd8448eb211c80319c"));
        assert_eq!(entries[4].title, "The order was overdue: orders.paid was published again");
        assert_eq!(entries[5].title, "The wait for the supplier was over");
        assert!(entries[5].facts.contains(&("late by", "2.0 s".to_owned())), "{:?}", entries[5]);
        assert!(entries[1].raw.as_ref().unwrap().contains("ce-time: 2026-01-01T10:00:00Z\n"));
    }
}
