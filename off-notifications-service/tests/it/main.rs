//! Black-box tests of the service over NATS.

#![expect(clippy::unwrap_used, reason = "a failure in a helper must fail the calling test")]

mod letters;
mod mails;
mod openapi;
mod orders;
mod orders_stand_in;
mod outages;
mod program;
mod settings;
mod smtp_server;

use off_events::{Order, streams};
use off_kit::Clock;
use off_notifications_service::{Config, MailConfig, NotificationsService};
use off_testkit::{LENTILS, Leftover, Running, TestNats, World};
use orders_stand_in::OrdersStandIn;
use serde_json::{Value, json};
use std::time::Duration;
use uuid::Uuid;

/// Settings with `supplier` and `delivery` as the wait of the supplier and of the delivery firm.
fn config(world: &World, supplier: Duration, delivery: Duration) -> Config {
    Config {
        db: world.db_config(),
        bus: world.bus_config(),
        mail: MailConfig::none(),
        supplier_delay_min: supplier,
        supplier_delay_max: supplier,
        delivery_delay_min: delivery,
        delivery_delay_max: delivery,
        seed: 0,
    }
}

/// A world with person 1.
async fn world_with_person() -> World {
    let world = World::new().await;
    world.add_device().await;
    world
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
async fn start_service(world: &World, wait: Duration) -> Running {
    Running::start_ready::<NotificationsService>(config(world, wait, wait), Clock::real(1.0)).await
}

/// The running service with its own Postgres database and NATS server, and a stand-in for the orders service.
struct Notifications {
    world: World,
    orders: OrdersStandIn,
    service: Running,
}

impl Notifications {
    /// Starts the service with `wait` as the wait of both the supplier and the delivery firm.
    async fn start(wait: Duration) -> Self {
        Self::start_in(world_with_person().await, wait).await
    }

    async fn start_in(world: World, wait: Duration) -> Self {
        let orders = OrdersStandIn::start(&world.nats).await;
        let service = start_service(&world, wait).await;
        Self { world, orders, service }
    }

    fn nats(&self) -> &TestNats {
        &self.world.nats
    }

    async fn pay_order(&self) -> Value {
        pay_order(&self.world.nats).await
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
        let messages = self.world.nats.wait_for_messages(streams::ORDERS.name, subject, count).await;
        messages.iter().map(|message| serde_json::from_slice(&message.payload).unwrap()).collect()
    }

    /// Waits until the service has handled everything, stops it, and asserts that the test leaves nothing behind.
    async fn end(self) {
        self.end_leaving(&[]).await;
    }

    /// [`Notifications::end`] of a test that leaves exactly these kinds of leftovers behind.
    async fn end_leaving(self, leftovers: &[Leftover]) {
        self.world.end_after(vec![self.service], leftovers).await;
    }
}
