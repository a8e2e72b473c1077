//! Message handlers, one per subject.

use crate::{App, NotificationsService, domain::Delay};
use chrono::{DateTime, Utc};
use metrics::histogram;
use off_events::{Event, Order, OrderDue, OrderStatus};
use off_kit::{
    Service,
    bus::{Batch, Failure, OutboundMessage, Received},
};

/// `orders.pending`: the supplier receives orders and ships each one after a wait.
pub(crate) async fn on_order_pending(app: App, orders: Batch<Order>) -> Result<(), Failure> {
    schedule_next_status(&app, &orders, OrderStatus::Shipped, app.supplier).await
}

/// `orders.shipped`: the delivery firm receives orders and completes each one after a wait.
pub(crate) async fn on_order_shipped(app: App, orders: Batch<Order>) -> Result<(), Failure> {
    schedule_next_status(&app, &orders, OrderStatus::Completed, app.delivery).await
}

/// `orders.due`: announces the next status of each order, with the time at which it was due.
pub(crate) async fn on_order_due(app: App, due: Batch<OrderDue>) -> Result<(), Failure> {
    let now = app.clock.now();
    for received in due.iter() {
        let late = (now - received.at).to_std().unwrap_or_default();
        histogram!("off_wait_late_seconds", "status" => received.event.0.status.as_str()).record(late);
    }
    publish(&app, due.iter().map(|received| event_message(received, &received.event.0, received.at))).await
}

/// Schedules the next status of each order in JetStream, or announces it at once if it is already due. The wait starts
/// when the order reached its current status, even if the message about it arrives late.
async fn schedule_next_status(
    app: &App,
    orders: &Batch<Order>,
    next: OrderStatus,
    delay: Delay,
) -> Result<(), Failure> {
    let now = app.clock.now();
    let messages = orders.iter().map(|received| {
        let order = received.event.with_status(next);
        let due = received.at + app.clock.real_wait(delay.wait(order.id, next, app.seed));
        if due > now { schedule_message(received, order, due) } else { event_message(received, &order, due) }
    });
    publish(app, messages).await
}

/// A message schedule that announces at `due` that the wait of `order` is over. It follows from `received`.
fn schedule_message(
    received: &Received<Order>,
    order: Order,
    due: DateTime<Utc>,
) -> serde_json::Result<OutboundMessage> {
    let subject = order.status.schedule_subject(order.id);
    Ok(event_message(received, &OrderDue(order), due)?.scheduled_at(due, subject))
}

/// The message of `event`, which occurred at `at` and follows from `received`.
fn event_message<R, E: Event>(
    received: &Received<R>,
    event: &E,
    at: DateTime<Utc>,
) -> serde_json::Result<OutboundMessage> {
    let message = OutboundMessage::of(NotificationsService::NAME, event, at, received.traceparent().as_deref())?;
    Ok(match received.announced_again_at {
        Some(time) => message.with_new_dedup_id(time),
        None => message,
    })
}

/// Publishes all messages. Rejects the batch if one of them cannot be serialized.
async fn publish(
    app: &App,
    messages: impl Iterator<Item = serde_json::Result<OutboundMessage>>,
) -> Result<(), Failure> {
    let messages: serde_json::Result<Vec<_>> = messages.collect();
    let messages = messages.map_err(|error| Failure::Reject(error.to_string()))?;
    let results = app.bus.publish_all(messages).await;
    // A retry also publishes the acknowledged messages again, with the same ids. The broker drops them within
    // its duplicate window; later duplicates have no effect.
    results.into_iter().collect::<Result<(), _>>().map_err(|error| Failure::Unavailable(error.into()))
}
