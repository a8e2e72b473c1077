//! Black-box tests of the service over NATS.

#![expect(clippy::unwrap_used, reason = "a failure in a helper must fail the calling test")]

mod openapi;
mod orders;
mod orders_stand_in;
mod outages;
mod program;
mod settings;

use off_events::{Order, streams};
use off_kit::{Clock, bus};
use off_notifications_service::{Config, NotificationsService};
use off_testkit::{LENTILS, Leftover, Running, TestNats};
use orders_stand_in::OrdersStandIn;
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

/// The body of a paid order that was placed long ago.
fn new_order() -> Value {
    json!({"id": Uuid::now_v7(), "ssd_id": 1, "user_id": 1, "barcode": LENTILS, "timestamp": "2026-01-01T00:00:00Z",
        "quantity": 1, "unit_price": {"amount": 299, "currency": "EUR"}, "total": {"amount": 299, "currency": "EUR"},
        "status": "paid"})
}

/// Publishes that `order` is paid, without headers.
async fn announce(nats: &TestNats, order: &Value) {
    nats.publish(Order::PAID, order).await;
}

/// Announces a new paid order, as the billing service does; returns its body.
async fn pay_order(nats: &TestNats) -> Value {
    let order = new_order();
    announce(nats, &order).await;
    order
}

/// Starts the service with `wait` as the wait of both the supplier and the delivery firm.
async fn start_service(nats: &TestNats, wait: Duration) -> Running {
    Running::start_ready::<NotificationsService>(config(nats, wait, wait), Clock::real(1.0)).await
}

/// The running service with its own NATS server, and a stand-in for the orders service.
struct Notifications {
    nats: TestNats,
    orders: OrdersStandIn,
    service: Running,
}

impl Notifications {
    /// Starts the service with `wait` as the wait of both the supplier and the delivery firm.
    async fn start(wait: Duration) -> Self {
        Self::start_on(TestNats::new().await, wait).await
    }

    async fn start_on(nats: TestNats, wait: Duration) -> Self {
        let orders = OrdersStandIn::start(&nats).await;
        let service = start_service(&nats, wait).await;
        Self { nats, orders, service }
    }

    async fn pay_order(&self) -> Value {
        pay_order(&self.nats).await
    }

    /// Waits until there are `count` messages that an order was shipped; returns their bodies.
    async fn wait_for_shipped(&self, count: usize) -> Vec<Value> {
        self.wait_for(Order::SHIPPED, count).await
    }

    /// Waits until there are `count` messages that an order was completed; returns their bodies.
    async fn wait_for_completed(&self, count: usize) -> Vec<Value> {
        self.wait_for(Order::COMPLETED, count).await
    }

    async fn wait_for(&self, subject: &str, count: usize) -> Vec<Value> {
        let messages = self.nats.wait_for_messages(streams::ORDERS.name, subject, count).await;
        messages.iter().map(|message| serde_json::from_slice(&message.payload).unwrap()).collect()
    }

    /// Waits until the service has handled everything, stops it, and asserts that the test leaves nothing behind.
    async fn end(self) {
        self.end_leaving(&[]).await;
    }

    /// [`Notifications::end`] of a test that leaves exactly these kinds of leftovers behind.
    async fn end_leaving(self, leftovers: &[Leftover]) {
        self.nats.end_after(vec![self.service], leftovers).await;
    }
}
