//! Handlers of the supplier and the delivery firm: the waits of orders.

use crate::{App, NotificationsService, domain::Delay};
use chrono::{DateTime, Utc};
use metrics::histogram;
use off_events::{
    Order, OrderDue, OrderId, OrderStatus, ReadyToShip, ShipReply, ShipRequest, faults::FaultKind, streams,
};
use off_kit::{
    Service,
    bus::{Batch, Failure, OutboundMessage, Received},
};
use std::collections::HashSet;

/// The wait of an order for its next status. It follows from the message `received`.
struct Wait<'a, E> {
    received: &'a Received<E>,
    /// With its next status.
    order: Order,
    /// The end of the wait.
    due: DateTime<Utc>,
}

/// `orders.paid`: the supplier receives orders and ships each one after a wait.
pub(crate) async fn on_order_paid(app: App, orders: Batch<Order>) -> Result<(), Failure> {
    begin(&app, &orders, OrderStatus::Shipped, app.supplier).await
}

/// `orders.shipped`: the delivery firm receives orders and completes each one after a wait.
pub(crate) async fn on_order_shipped(app: App, orders: Batch<Order>) -> Result<(), Failure> {
    begin(&app, &orders, OrderStatus::Completed, app.delivery).await
}

/// `orders.due`: announces the next status of each order.
pub(crate) async fn on_order_due(app: App, due: Batch<OrderDue>) -> Result<(), Failure> {
    let now = app.clock.now();
    for received in due.iter() {
        let late = (now - received.at).to_std().unwrap_or_default();
        histogram!("off_wait_late_seconds", "status" => received.event.0.status.as_str()).record(late);
    }
    let lost = app.bus.faults.find(FaultKind::DeliveryLost, now);
    let is_lost = |order: &Order| {
        let is_delivered = order.status == OrderStatus::Completed;
        is_delivered && lost.as_ref().is_some_and(|fault| fault.hits(order.id.0.as_bytes()))
    };
    let due = due.iter().filter(|received| !is_lost(&received.event.0));
    let waits = due.map(|received| Wait { received, order: received.event.0.clone(), due: received.at }).collect();
    let announced = end(&app, waits).await?;
    publish(&app, announced.iter().map(announcement)).await
}

/// Begins the wait for the next status of each order, or announces that status if the wait is over. The wait starts when
/// the order reached its current status, even if the message about it arrives late.
async fn begin(app: &App, orders: &Batch<Order>, next: OrderStatus, delay: Delay) -> Result<(), Failure> {
    let now = app.clock.now();
    let slow = app.bus.faults.find(FaultKind::SupplierSlow, now).filter(|_| next == OrderStatus::Shipped);
    let waits = orders.iter().map(|received| {
        let order = received.event.with_status(next);
        let mut wait = app.clock.real_wait(delay.wait(order.id, next, app.seed));
        if let Some(slow) = slow.as_ref().filter(|slow| slow.hits(order.id.0.as_bytes())) {
            wait = wait.saturating_mul(slow.amount()).min(streams::LONGEST_WAIT);
        }
        let due = received.at + wait;
        Wait { received, order, due }
    });
    let (waiting, over): (Vec<_>, Vec<_>) = waits.partition(|wait| wait.due > now);
    let announced = end(app, over).await?;
    publish(app, waiting.iter().map(schedule).chain(announced.iter().map(announcement))).await
}

/// Ends waits, and returns those whose next status is announced. An order is shipped only if the orders service ships
/// it; otherwise it ended.
async fn end<'a, E>(app: &App, mut waits: Vec<Wait<'a, E>>) -> Result<Vec<Wait<'a, E>>, Failure> {
    let shipped = ship(app, &waits).await?;
    waits.retain(|wait| wait.order.status != OrderStatus::Shipped || shipped.contains(&wait.order.id));
    Ok(waits)
}

/// Asks the orders service to ship the orders that are ready to leave the supplier. Returns those that are shipped.
async fn ship<E>(app: &App, waits: &[Wait<'_, E>]) -> Result<HashSet<OrderId>, Failure> {
    let ready = waits.iter().filter(|wait| wait.order.status == OrderStatus::Shipped);
    let orders: Vec<ReadyToShip> = ready.map(|wait| ReadyToShip { id: wait.order.id, at: wait.due }).collect();
    if orders.is_empty() {
        return Ok(HashSet::new());
    }
    let reply: ShipReply =
        app.bus.request(ShipRequest::SUBJECT, &ShipRequest { orders }).await.map_err(Failure::Unavailable)?;
    Ok(reply.shipped.into_iter().collect())
}

/// A message schedule, which JetStream keeps until the wait is over.
fn schedule(wait: &Wait<'_, Order>) -> serde_json::Result<OutboundMessage> {
    let subject = wait.order.status.schedule_subject(wait.order.id);
    let due = OrderDue(wait.order.clone());
    Ok(OutboundMessage::caused_by(wait.received, NotificationsService::NAME, &due, wait.due)?
        .scheduled_at(wait.due, subject))
}

/// The event that the order has its next status, since the end of the wait.
fn announcement<E>(wait: &Wait<'_, E>) -> serde_json::Result<OutboundMessage> {
    OutboundMessage::caused_by(wait.received, NotificationsService::NAME, &wait.order, wait.due)
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
