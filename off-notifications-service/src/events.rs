//! One function per subject it listens to.

use crate::{App, NotificationsService, domain::Delay};
use metrics::histogram;
use off_events::{Order, OrderDue, OrderStatus};
use off_kit::{
    Service,
    bus::{Batch, Failure, Outgoing},
};

/// `orders.pending`: the supplier takes the orders and ships each after a while.
pub(crate) async fn on_order_pending(app: App, orders: Batch<Order>) -> Result<(), Failure> {
    announce_later(&app, &orders, OrderStatus::Shipped, app.supplier).await
}

/// `orders.shipped`: the delivery firm takes the orders and each arrives after a while.
pub(crate) async fn on_order_shipped(app: App, orders: Batch<Order>) -> Result<(), Failure> {
    announce_later(&app, &orders, OrderStatus::Completed, app.delivery).await
}

/// `orders.due`: says of each order that it has reached its next state, with the time at which it was due.
pub(crate) async fn on_order_due(app: App, due: Batch<OrderDue>) -> Result<(), Failure> {
    let now = app.clock.now();
    let messages = due.iter().map(|received| {
        let late = (now - received.at).to_std().unwrap_or_default();
        histogram!("off_wait_late_seconds", "status" => received.event.0.status.as_str()).record(late);
        Outgoing::of(NotificationsService::NAME, &received.event.0, received.at, received.traceparent().as_deref())
            .map(|message| message.announced_again(received.announced_again))
    });
    publish(&app, messages.collect::<Result<_, _>>().map_err(|error| Failure::Reject(error.to_string()))?).await
}

/// Writes down the next state of each order, for JetStream to hand back when it is due. The wait begins when the order
/// reached its present state, however late that is heard of.
async fn announce_later(app: &App, orders: &Batch<Order>, next: OrderStatus, delay: Delay) -> Result<(), Failure> {
    let now = app.clock.now();
    let mut messages = Vec::with_capacity(orders.len());
    for received in orders.iter() {
        let order = received.event.with_status(next);
        let due = received.at + app.clock.real_wait(delay.of(order.id, next, app.seed));
        let (source, trace) = (NotificationsService::NAME, received.traceparent());
        let message = if due > now {
            let timer = next.timer_subject(order.id);
            Outgoing::of(source, &OrderDue(order), due, trace.as_deref()).map(|message| message.kept_until(due, timer))
        } else {
            Outgoing::of(source, &order, due, trace.as_deref())
        };
        let message = message.map_err(|error| Failure::Reject(error.to_string()))?;
        messages.push(message.announced_again(received.announced_again));
    }
    publish(app, messages).await
}

async fn publish(app: &App, messages: Vec<Outgoing>) -> Result<(), Failure> {
    let answers = app.bus.publish_all(messages).await;
    // A retry publishes what was acknowledged once more, with the same message id: the broker drops it within its duplicate
    // window, and later it changes nothing.
    answers.into_iter().collect::<Result<(), _>>().map_err(|error| Failure::Unavailable(error.into()))
}
