//! Decides which orders are paid, and what becomes of their money. A batch is one transaction.
//!
//! The accounts of a batch are locked first, in one order. The next statement sees what every earlier transaction
//! decided about these accounts, so that an order is decided once, with any number of replicas.

use crate::{
    App,
    domain::{Charge, LOW_BALANCE, charges_to_low_balance, settle},
    store::{self, Known},
};
use chrono::{DateTime, Utc};
use off_events::{LowBalance, Order, OrderId, UserId, faults::FaultKind};
use off_kit::{
    bus::{Batch, Received},
    outbox::Entry,
};
use sqlx::PgConnection;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use uuid::Uuid;

/// Charges pending orders, each once, in the order in which they were placed. Returns what is known of each.
pub(crate) async fn charge(app: &App, orders: &Batch<Order>) -> sqlx::Result<HashMap<OrderId, Known>> {
    let orders = distinct(orders);
    let ids: Vec<Uuid> = orders.keys().map(|id| id.0).collect();
    let mut tx = app.db.begin().await?;
    let mut balances = store::lock_accounts(&mut tx, &users(&orders)).await?;
    let mut known = store::list_known(&mut tx, &ids).await?;
    // In the order of their ids, which begin with the time at which they were placed.
    let new = orders.values().map(|received| &received.event).filter(|order| !known.contains_key(&order.id));
    let charges: Vec<Charge> =
        new.map(|order| Charge { order: order.id, user: order.user_id, amount: order.total }).collect();
    if !charges.is_empty() {
        let at = app.clock.now();
        let before = balances.clone();
        let refused = app.bus.faults.find(FaultKind::PaymentRefused, at);
        let is_refused = |order: OrderId| refused.as_ref().is_some_and(|fault| fault.hits(order.0.as_bytes()));
        let outcomes = settle(&mut balances, &charges, is_refused);
        let low = charges_to_low_balance(before, &charges, &outcomes);
        let decisions: Vec<_> = charges.into_iter().zip(outcomes).collect();
        store::insert_decisions(&mut tx, &decisions, at).await?;
        announce_low_balances(app, &mut tx, &orders, &low, at).await?;
        known.extend(decisions.iter().map(|(charge, outcome)| (charge.order, Known::Decided(*outcome, at))));
    }
    tx.commit().await?;
    app.outbox.wake();
    Ok(known)
}

/// Stores the events about balances that became low. They go through the outbox, because a batch that is delivered again
/// does not show which of its charges took a balance below the threshold.
async fn announce_low_balances(
    app: &App,
    conn: &mut PgConnection,
    orders: &BTreeMap<OrderId, &Received<Order>>,
    low: &[Charge],
    at: DateTime<Utc>,
) -> sqlx::Result<()> {
    let events: Vec<LowBalance> = low
        .iter()
        .map(|charge| LowBalance {
            user_id: charge.user,
            order_id: charge.order,
            threshold: LOW_BALANCE,
            timestamp: at,
        })
        .collect();
    let entries: Vec<Entry<'_, LowBalance>> = events
        .iter()
        .map(|event| Entry { event, occurred_at: at, traceparent: orders[&event.order_id].traceparent() })
        .collect();
    app.outbox.put(conn, &entries).await
}

/// Records the money of completed orders as earned, each once. Returns an order that was never paid, if there is one.
pub(crate) async fn earn(app: &App, orders: &Batch<Order>) -> sqlx::Result<Option<OrderId>> {
    let ids: BTreeSet<OrderId> = orders.iter().map(|received| received.event.id).collect();
    let asked: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
    let charged = store::insert_earnings(&app.db, &asked, app.clock.now()).await?;
    Ok(ids.into_iter().find(|id| !charged.contains(&id.0)))
}

/// Refunds cancelled orders, each once. One that was not charged yet will never be.
pub(crate) async fn refund(app: &App, orders: &Batch<Order>) -> sqlx::Result<()> {
    let orders = distinct(orders);
    let ids: Vec<Uuid> = orders.keys().map(|id| id.0).collect();
    let owners: Vec<i64> = orders.values().map(|received| received.event.user_id.0).collect();
    let mut tx = app.db.begin().await?;
    store::lock_accounts(&mut tx, &users(&orders)).await?;
    store::insert_refunds(&mut tx, &ids, &owners, app.clock.now()).await?;
    tx.commit().await
}

/// Each order of a batch once, by id.
fn distinct(orders: &[Received<Order>]) -> BTreeMap<OrderId, &Received<Order>> {
    orders.iter().map(|received| (received.event.id, received)).collect()
}

/// Each person of these orders once.
fn users(orders: &BTreeMap<OrderId, &Received<Order>>) -> Vec<i64> {
    let users: BTreeSet<UserId> = orders.values().map(|received| received.event.user_id).collect();
    users.into_iter().map(|user| user.0).collect()
}
