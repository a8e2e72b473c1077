//! Handlers of the supplier and the delivery firm: the waits of orders.

use crate::{App, NotificationsService, domain::Delay};
use chrono::{DateTime, Utc};
use metrics::histogram;
use off_events::{Order, OrderDue, OrderId, OrderStatus, ReadyToShip, ShipReply, ShipRequest};
use off_kit::{
    Service,
    bus::{Batch, Failure, OutboundMessage, Received},
};
use std::collections::HashSet;

/// `orders.paid`: the supplier receives orders and ships each one after a wait.
pub(crate) async fn on_order_paid(app: App, orders: Batch<Order>) -> Result<(), Failure> {
    schedule_next_status(&app, &orders, OrderStatus::Shipped, app.supplier).await
}

/// `orders.shipped`: the delivery firm receives orders and completes each one after a wait.
pub(crate) async fn on_order_shipped(app: App, orders: Batch<Order>) -> Result<(), Failure> {
    schedule_next_status(&app, &orders, OrderStatus::Completed, app.delivery).await
}

/// `orders.due`: announces the next status of each order, with the time at which it was due. An order is shipped only if
/// the orders service ships it; otherwise it ended.
pub(crate) async fn on_order_due(app: App, due: Batch<OrderDue>) -> Result<(), Failure> {
    let now = app.clock.now();
    for received in due.iter() {
        let late = (now - received.at).to_std().unwrap_or_default();
        histogram!("off_wait_late_seconds", "status" => received.event.0.status.as_str()).record(late);
    }
    let shipped = ship(&app, &due).await?;
    let announced = due.iter().filter(|received| {
        let order = &received.event.0;
        order.status != OrderStatus::Shipped || shipped.contains(&order.id)
    });
    publish(
        &app,
        announced.map(|received| {
            OutboundMessage::caused_by(received, NotificationsService::NAME, &received.event.0, received.at)
        }),
    )
    .await
}

/// Asks the orders service to ship the orders of a batch that are ready to leave the supplier. Returns those that are
/// shipped.
async fn ship(app: &App, due: &Batch<OrderDue>) -> Result<HashSet<OrderId>, Failure> {
    let ready = due.iter().filter(|received| received.event.0.status == OrderStatus::Shipped);
    let orders: Vec<ReadyToShip> =
        ready.map(|received| ReadyToShip { id: received.event.0.id, at: received.at }).collect();
    if orders.is_empty() {
        return Ok(HashSet::new());
    }
    let reply: ShipReply =
        app.bus.request(ShipRequest::SUBJECT, &ShipRequest { orders }).await.map_err(Failure::Unavailable)?;
    Ok(reply.shipped.into_iter().collect())
}

/// Schedules the next status of each order in JetStream. The wait starts when the order reached its current status, even
/// if the message about it arrives late; if it is over already, JetStream ends it at once.
async fn schedule_next_status(
    app: &App,
    orders: &Batch<Order>,
    next: OrderStatus,
    delay: Delay,
) -> Result<(), Failure> {
    let messages = orders.iter().map(|received| {
        let order = received.event.with_status(next);
        let due = received.at + app.clock.real_wait(delay.wait(order.id, next, app.seed));
        schedule_message(received, order, due)
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
    Ok(OutboundMessage::caused_by(received, NotificationsService::NAME, &OrderDue(order), due)?
        .scheduled_at(due, subject))
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
