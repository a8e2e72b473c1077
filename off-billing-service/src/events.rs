//! Message handlers, one per subject.

use crate::{App, BillingService, charge, domain::Outcome, store, store::Known};
use metrics::counter;
use off_events::{Order, OrderId, OrderStatus, Refusal, UserRegistered};
use off_kit::{
    Service,
    bus::{Batch, Failure, OutboundMessage, Received},
};
use std::collections::HashMap;

/// `users.registered`: opens accounts.
pub(crate) async fn on_user_registered(app: App, people: Batch<UserRegistered>) -> Result<(), Failure> {
    let users: Vec<i64> = people.iter().map(|received| received.event.id.0).collect();
    store::insert_accounts(&app.db, &users).await.map_err(Failure::of_database)
}

/// `orders.pending`: charges orders, and publishes which are paid and which are refused. A repeated order is answered as
/// before.
pub(crate) async fn on_order_pending(app: App, orders: Batch<Order>) -> Result<(), Failure> {
    let known = charge::charge(&app, &orders).await.map_err(Failure::of_database)?;
    publish_outcomes(&app, &orders, &known).await
}

/// `orders.completed`: books the revenue.
pub(crate) async fn on_order_completed(app: App, orders: Batch<Order>) -> Result<(), Failure> {
    match charge::earn(&app, &orders).await.map_err(Failure::of_database)? {
        None => Ok(()),
        Some(order) => Err(Failure::Reject(format!("order {order} is completed, but was not paid"))),
    }
}

/// `orders.cancelled`: refunds orders.
pub(crate) async fn on_order_cancelled(app: App, orders: Batch<Order>) -> Result<(), Failure> {
    charge::refund(&app, &orders).await.map_err(Failure::of_database)
}

/// Publishes the outcome of each order, except of cancelled ones, before the batch is acknowledged. After a crash in
/// between, the batch is delivered again.
async fn publish_outcomes(app: &App, orders: &Batch<Order>, known: &HashMap<OrderId, Known>) -> Result<(), Failure> {
    let messages = orders.iter().filter_map(|received| match known.get(&received.event.id) {
        Some(Known::Decided(outcome, at)) => Some(outcome_message(received, *outcome, *at)),
        Some(Known::Cancelled) | None => None,
    });
    let messages: serde_json::Result<Vec<_>> = messages.collect();
    let messages = messages.map_err(|error| Failure::Reject(error.to_string()))?;
    let results = app.bus.publish_all(messages).await;
    results.into_iter().collect::<Result<(), _>>().map_err(|error| Failure::Unavailable(error.into()))
}

fn outcome_message(
    received: &Received<Order>,
    outcome: Outcome,
    at: chrono::DateTime<chrono::Utc>,
) -> serde_json::Result<OutboundMessage> {
    let (status, refusal) = match outcome {
        Outcome::Paid => (OrderStatus::Paid, None),
        Outcome::Refused(missing) => (OrderStatus::Refused, Some(Refusal::InsufficientFunds { missing })),
    };
    counter!("off_billing_orders_total", "outcome" => status.as_str()).increment(1);
    let order = Order { refusal, ..received.event.with_status(status) };
    OutboundMessage::caused_by(received, BillingService::NAME, &order, at)
}
