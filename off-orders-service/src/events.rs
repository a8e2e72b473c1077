//! One function per subject it listens to.

use crate::{App, store};
use chrono::{DateTime, Utc};
use metrics::histogram;
use off_events::{Order, OrderId, OrderStatus, RandomBarcode, RandomQuestion};
use off_kit::bus::{Batch, Failure, Received};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::HashSet;
use uuid::Uuid;

/// How often products are drawn before the catalogue counts as empty, and how many at a time.
const DRAWS: usize = 5;
const DRAWN_AT_ONCE: usize = 32;

/// `orders.random`: answers with a product.
pub(crate) async fn on_order_random(app: App, question: RandomQuestion) -> anyhow::Result<Option<RandomBarcode>> {
    // ChaCha draws the same numbers on every machine and in every version.
    let mut rng = match question.product_seed {
        Some(seed) => ChaCha8Rng::seed_from_u64(seed.into()),
        None => ChaCha8Rng::from_rng(&mut rand::rng()),
    };
    for _ in 0..DRAWS {
        let draws: [f64; DRAWN_AT_ONCE] = rng.random();
        if let Some(barcode) = store::find_drawn_barcode(&app.db, &draws).await? {
            return Ok(Some(RandomBarcode { barcode: Some(barcode) }));
        }
    }
    Ok(Some(RandomBarcode { barcode: None }))
}

/// `orders.shipped`: notes that orders left their supplier.
pub(crate) async fn on_order_shipped(app: App, orders: Batch<Order>) -> Result<(), Failure> {
    mark_reached(&app, OrderStatus::Shipped, &orders).await
}

/// `orders.completed`: notes that orders arrived.
pub(crate) async fn on_order_completed(app: App, orders: Batch<Order>) -> Result<(), Failure> {
    mark_reached(&app, OrderStatus::Completed, &orders).await
}

async fn mark_reached(app: &App, status: OrderStatus, orders: &Batch<Order>) -> Result<(), Failure> {
    let (ids, times): (Vec<Uuid>, Vec<DateTime<Utc>>) =
        orders.iter().map(|received| (received.event.id.0, received.at)).unzip();
    let known = store::mark_reached(&app.db, status, &ids, &times, app.limits).await?;
    note_ages(orders);
    all_known(orders, &known)
}

/// How old orders were when they reached a state.
fn note_ages(orders: &Batch<Order>) {
    for Received { event: order, at, .. } in orders.iter() {
        let age = (*at - order.timestamp).to_std().unwrap_or_default();
        histogram!("off_order_age_seconds", "status" => order.status.as_str()).record(age);
    }
}

/// An order is stored before anyone hears of it, so an unknown one was never placed here.
fn all_known(orders: &Batch<Order>, known: &HashSet<OrderId>) -> Result<(), Failure> {
    match orders.iter().find(|received| !known.contains(&received.event.id)) {
        None => Ok(()),
        Some(stranger) => Err(Failure::Reject(format!("there is no order {}", stranger.event.id))),
    }
}
