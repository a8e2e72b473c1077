//! Black-box tests of the service over NATS.

#![expect(clippy::unwrap_used, reason = "a failure in a helper must fail the calling test")]

mod bad_weather;
mod openapi;
mod orders;
mod program;
mod settings;

use off_kit::{Clock, bus};
use off_notifications_service::{Config, NotificationsService};
use off_testkit::{Running, TestNats, eventually};
use serde_json::{Value, json};
use std::time::Duration;
use uuid::Uuid;

/// Settings with `supplier` and `delivery` as the wait of the supplier and of the delivery firm.
fn config(nats: &TestNats, supplier: Duration, delivery: Duration) -> Config {
    Config {
        bus: bus::Config::at(&nats.url),
        supplier_delay_min: supplier,
        supplier_delay_max: supplier,
        delivery_delay_min: delivery,
        delivery_delay_max: delivery,
        seed: 0,
    }
}

/// Starts the service with `wait` as the wait of both the supplier and the delivery firm.
async fn start(nats: &TestNats, wait: Duration) -> Running {
    Running::start_ready::<NotificationsService>(config(nats, wait, wait), Clock::real(1.0)).await
}

/// The body of an order that was placed long ago.
fn new_order() -> Value {
    json!({"id": Uuid::now_v7(), "ssd_id": 1, "barcode": "2000000000015", "timestamp": "2026-01-01T00:00:00Z",
        "quantity": 1, "status": "pending"})
}

/// Publishes a message without headers.
async fn publish(nats: &TestNats, subject: &'static str, body: &Value) {
    let sent = nats.bus.jetstream.publish(subject, body.to_string().into()).await.unwrap();
    sent.await.unwrap();
}

/// Announces a new order, as the orders service does; returns its body.
async fn place_order(nats: &TestNats) -> Value {
    let order = new_order();
    publish(nats, "orders.pending", &order).await;
    order
}

/// Waits until there are `count` messages on `subject`; returns their bodies.
async fn wait_for_messages(nats: &TestNats, subject: &str, count: usize) -> Vec<Value> {
    eventually(&format!("{count} messages on {subject}"), || async {
        let messages = nats.bus.read("ORDERS", subject, 1).await.ok()?;
        let bodies: Vec<Value> =
            messages.iter().map(|message| serde_json::from_slice(&message.payload).unwrap()).collect();
        (bodies.len() >= count).then_some(bodies)
    })
    .await
}
