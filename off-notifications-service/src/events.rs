//! Message handlers, one per subject.

use crate::{App, NotificationsService, domain::Delay};
use metrics::histogram;
use off_events::{Order, OrderDue, OrderStatus};
use off_kit::{
    Service,
    bus::{Batch, Failure, OutboundMessage},
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
    let messages = due.iter().map(|received| {
        let late = (now - received.at).to_std().unwrap_or_default();
        histogram!("off_wait_late_seconds", "status" => received.event.0.status.as_str()).record(late);
        OutboundMessage::of(
            NotificationsService::NAME,
            &received.event.0,
            received.at,
            received.traceparent().as_deref(),
        )
        .map(|message| message.with_new_dedup_id(received.announced_again))
    });
    publish(&app, messages.collect::<Result<_, _>>().map_err(|error| Failure::Reject(error.to_string()))?).await
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
    let mut messages = Vec::with_capacity(orders.len());
    for received in orders.iter() {
        let order = received.event.with_status(next);
        let due = received.at + app.clock.real_wait(delay.of(order.id, next, app.seed));
        let (source, trace) = (NotificationsService::NAME, received.traceparent());
        let message = if due > now {
            let timer = next.timer_subject(order.id);
            OutboundMessage::of(source, &OrderDue(order), due, trace.as_deref())
                .map(|message| message.scheduled_at(due, timer))
        } else {
            OutboundMessage::of(source, &order, due, trace.as_deref())
        };
        let message = message.map_err(|error| Failure::Reject(error.to_string()))?;
        messages.push(message.with_new_dedup_id(received.announced_again));
    }
    publish(app, messages).await
}

async fn publish(app: &App, messages: Vec<OutboundMessage>) -> Result<(), Failure> {
    let results = app.bus.publish_all(messages).await;
    // A retry also publishes the acknowledged messages again, with the same message ids. The broker drops them within
    // its duplicate window; later duplicates have no effect.
    results.into_iter().collect::<Result<(), _>>().map_err(|error| Failure::Unavailable(error.into()))
}
