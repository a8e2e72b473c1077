//! One function per subject it listens to.

use crate::{App, NotificationsService, domain::Delay};
use off_events::{Order, OrderStatus};
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

/// Writes down the next state of each order, for JetStream to announce when it is due. The wait begins when the order
/// reached its present state, however late that is heard of.
async fn announce_later(app: &App, orders: &Batch<Order>, next: OrderStatus, delay: Delay) -> Result<(), Failure> {
    let now = app.clock.now();
    let mut messages = Vec::with_capacity(orders.len());
    for received in orders.iter() {
        let order = received.event.with_status(next);
        let due = received.at + app.clock.real_wait(delay.of(order.id, next, app.seed));
        let message = Outgoing::of(NotificationsService::NAME, &order, due, received.traceparent().as_deref())
            .map_err(|error| Failure::Reject(error.to_string()))?;
        messages.push(if due > now { message.kept_until(due, next.timer_subject(order.id)) } else { message });
    }
    let answers = app.bus.publish_all(messages).await;
    // What was acknowledged is not repeated by the retry: the same wait has the same message id.
    answers.into_iter().collect::<Result<(), _>>().map_err(|error| Failure::Unavailable(error.into()))
}
