//! Message handlers, one per subject.

use crate::{
    App,
    store::{self, Reached},
};
use metrics::histogram;
use off_events::{Order, OrderId, OrderStatus, RandomBarcode, RandomRequest, Refusal, ShipReply, ShipRequest};
use off_kit::bus::{Batch, Failure, Received};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::HashSet;

/// How many rounds of draws may find no product before the catalog counts as empty.
const MAX_ROUNDS: usize = 5;
/// How many products are drawn in a round, with one query.
const DRAWS_PER_ROUND: usize = 32;

/// `orders.random`: answers with the barcode of a random product, or with none if the catalog is empty.
pub(crate) async fn on_order_random(app: App, request: RandomRequest) -> anyhow::Result<Option<RandomBarcode>> {
    // ChaCha draws the same numbers on every machine and in every version.
    let mut rng = match request.product_seed {
        Some(seed) => ChaCha8Rng::seed_from_u64(seed.into()),
        None => ChaCha8Rng::from_rng(&mut rand::rng()),
    };
    for _ in 0..MAX_ROUNDS {
        let draws: [f64; DRAWS_PER_ROUND] = rng.random();
        if let Some(barcode) = store::find_drawn_barcode(&app.db, &draws).await? {
            return Ok(Some(RandomBarcode { barcode: Some(barcode) }));
        }
    }
    Ok(Some(RandomBarcode { barcode: None }))
}

/// `orders.ship`: ships orders whose supplier's wait is over, unless they ended.
pub(crate) async fn on_ship_request(app: App, request: ShipRequest) -> anyhow::Result<ShipReply> {
    let ready = request.orders.iter().map(|ready| Reached { id: ready.id, at: ready.at, missing: None });
    let shipped = store::ship_orders(&app.db, &ready.collect::<Vec<_>>(), app.limits).await?;
    Ok(ShipReply { shipped: shipped.into_iter().collect() })
}

/// `orders.paid`: marks orders as paid.
pub(crate) async fn on_order_paid(app: App, orders: Batch<Order>) -> Result<(), Failure> {
    mark_reached(&app, OrderStatus::Paid, &orders).await
}

/// `orders.refused`: marks orders as refused.
pub(crate) async fn on_order_refused(app: App, orders: Batch<Order>) -> Result<(), Failure> {
    mark_reached(&app, OrderStatus::Refused, &orders).await
}

/// `orders.completed`: marks orders as completed.
pub(crate) async fn on_order_completed(app: App, orders: Batch<Order>) -> Result<(), Failure> {
    mark_reached(&app, OrderStatus::Completed, &orders).await
}

async fn mark_reached(app: &App, status: OrderStatus, orders: &Batch<Order>) -> Result<(), Failure> {
    let reached: Vec<Reached> = orders.iter().map(reached).collect();
    let known = store::mark_reached(&app.db, status, &reached, app.limits).await.map_err(Failure::of_database)?;
    record_ages(orders);
    reject_unknown(orders, &known.into_iter().map(|(id, _)| id).collect())
}

fn reached(received: &Received<Order>) -> Reached {
    let missing = received.event.refusal.map(|Refusal::InsufficientFunds { missing }| missing.cents());
    Reached { id: received.event.id, at: received.at, missing }
}

/// Records the age at which each order reached its status.
fn record_ages(orders: &Batch<Order>) {
    for Received { event: order, at, .. } in orders.iter() {
        let age = (*at - order.timestamp).to_std().unwrap_or_default();
        histogram!("off_order_age_seconds", "status" => order.status.as_str()).record(age);
    }
}

/// Fails on an unknown order. An order is stored before its first event is published, so an unknown one was never
/// placed.
fn reject_unknown(orders: &Batch<Order>, known: &HashSet<OrderId>) -> Result<(), Failure> {
    match orders.iter().find(|received| !known.contains(&received.event.id)) {
        None => Ok(()),
        Some(unknown) => Err(Failure::Reject(format!(
            "order {} is not in Postgres: it was never placed, or an older backup was restored",
            unknown.event.id
        ))),
    }
}
