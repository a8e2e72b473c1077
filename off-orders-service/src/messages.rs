//! The messages of an order, as the streams hold them.
//!
//! No index leads from an order to its messages: one would be written to with each message, or each order would have
//! subjects of its own, which the broker keeps in memory. The order's row has the time of each status, though, and the
//! broker finds the first message after a time at once; the message of the order is among the next ones.

use crate::domain::{OrderWithHistory, Step};
use chrono::{DateTime, TimeDelta, Utc};
use futures::future::try_join_all;
use off_events::{Event, Order, OrderDue, OrderStatus, streams::ORDERS};
use off_kit::{
    Bus,
    bus::{Search, StoredMessage},
};

/// A message is published after its status was reached, by clocks that agree this well.
const AHEAD: TimeDelta = TimeDelta::milliseconds(100);

/// Clocks that agree worse are off by at most this much, like those of a service and its database.
const FAR_AHEAD: TimeDelta = TimeDelta::seconds(6);

/// A message that was stored later than this after its status follows from an announcement of recovery, or there is none.
const BEHIND: TimeDelta = TimeDelta::seconds(15);

/// Maximum number of messages of other orders that are read for one message.
const MAX_READ: usize = 8192;

/// Messages are looked for after so many of the last announcements of recovery.
const MAX_ANNOUNCEMENTS: usize = 4;

/// A message that an order should have.
#[derive(Debug)]
struct Expected {
    subject: &'static str,
    event_id: String,
    at: DateTime<Utc>,
}

/// The messages of an order that its stream still holds, oldest first: its events, the ends of its waits, and the message
/// schedule of the wait that goes on; also those that followed from an announcement of recovery.
pub(crate) async fn find(bus: &Bus, order: &OrderWithHistory) -> anyhow::Result<Vec<StoredMessage>> {
    let searches = expected(order).into_iter().map(async |expected| find_one(bus, &expected).await);
    let (found, schedule) = tokio::try_join!(try_join_all(searches), find_schedule(bus, &order.order))?;
    let mut messages: Vec<StoredMessage> = found.into_iter().flatten().chain(schedule).collect();
    messages.sort_unstable_by_key(|message| message.sequence);
    messages.dedup_by_key(|message| message.sequence);
    Ok(messages)
}

/// The messages of the statuses that an order has reached, and of the waits that led to them. After it was announced again,
/// the message of that status is expected once more, and those of the statuses after it.
fn expected(order: &OrderWithHistory) -> Vec<Expected> {
    let mut expected: Vec<Expected> = order.history.iter().flat_map(|step| messages_of(order, *step)).collect();
    for announced in order.announced_again.iter().rev().take(MAX_ANNOUNCEMENTS) {
        let from = order.history.iter().position(|step| step.status == announced.status);
        // Those of a wait that had not ended by then are found by the time of their status.
        let late = order.history.iter().skip(from.unwrap_or_default()).filter(|step| step.at <= announced.at);
        expected.extend(late.flat_map(|step| messages_of(order, Step { at: announced.at, ..*step })));
    }
    expected
}

/// The message of a status, and that of the wait that led to it.
fn messages_of(order: &OrderWithHistory, step: Step) -> impl Iterator<Item = Expected> {
    let event = order.order.with_status(step.status);
    let due = matches!(step.status, OrderStatus::Shipped | OrderStatus::Completed).then(|| OrderDue(event.clone()));
    let due = due.map(|due| Expected { subject: due.subject(), event_id: due.event_id(), at: step.at });
    due.into_iter().chain([Expected { subject: event.subject(), event_id: event.event_id(), at: step.at }])
}

async fn find_one(bus: &Bus, expected: &Expected) -> anyhow::Result<Option<StoredMessage>> {
    let Expected { subject, event_id, at } = expected;
    let search = Search { stream: ORDERS.name, subject, from: *at - AHEAD, until: *at + BEHIND, limit: MAX_READ };
    if let Some(found) = bus.find_message(search, event_id).await? {
        return Ok(Some(found));
    }
    bus.find_message(Search { from: *at - FAR_AHEAD, until: *at - AHEAD, ..search }, event_id).await
}

/// The message schedule of the wait of an order; it has a subject of its own.
async fn find_schedule(bus: &Bus, order: &Order) -> anyhow::Result<Option<StoredMessage>> {
    let next = match order.status {
        OrderStatus::Paid => OrderStatus::Shipped,
        OrderStatus::Shipped => OrderStatus::Completed,
        _ => return Ok(None),
    };
    bus.last_message(ORDERS.name, &next.schedule_subject(order.id)).await
}
