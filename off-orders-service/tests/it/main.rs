//! Tests of the orders service over HTTP and NATS.

#![expect(clippy::unwrap_used, reason = "a panic fails the test")]

mod bad_weather;
mod bus;
mod openapi;
mod orders;
mod program;
mod recovery;

use chrono::{DateTime, Utc};
use off_events::streams;
use off_kit::Clock;
use off_orders_service::{Config, OrdersService};
use off_testkit::{Answer, Http, Running, World};
use serde_json::{Value, json};
use std::time::Duration;

/// A running service with its own Postgres database and NATS server, and one registered device, `ssd`.
struct Orders {
    world: World,
    service: Running,
    ssd: i64,
}

impl Orders {
    async fn start() -> Self {
        Self::start_in(World::new().await).await
    }

    async fn start_in(world: World) -> Self {
        Self::start_with(world, Clock::real(1.0)).await
    }

    async fn start_with(world: World, clock: Clock) -> Self {
        let ssd = world.add_device().await;
        let service = Running::start_ready::<OrdersService>(config(&world), clock).await;
        Self { world, service, ssd }
    }

    fn http(&self) -> &Http {
        &self.service.http
    }

    fn health(&self) -> &Http {
        &self.service.health
    }

    fn order_body(&self, barcode: &str, quantity: i64) -> Value {
        json!({"ssd_id": self.ssd, "barcode": barcode, "quantity": quantity})
    }

    /// Places an order, and asserts that the response is 201.
    async fn place(&self, barcode: &str, quantity: i64) -> Value {
        let answer = self.http().post("/api/orders", &self.order_body(barcode, quantity)).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.body
    }

    async fn find(&self, order: &Value) -> Answer {
        self.http().get(&format!("/api/orders/{}", order["id"].as_str().unwrap())).await
    }

    /// Publishes the event that `order` reached `status` at `at`.
    async fn publish(&self, order: &Value, status: &str, at: DateTime<Utc>) {
        let mut order = order.clone();
        order["status"] = json!(status);
        let subject = match status {
            "shipped" => "orders.shipped",
            _ => "orders.completed",
        };
        let mut headers = async_nats::HeaderMap::new();
        headers.insert("ce-time", at.to_rfc3339().as_str());
        let jetstream = &self.world.nats.bus.jetstream;
        let sent = jetstream.publish_with_headers(subject, headers, order.to_string().into()).await.unwrap();
        sent.await.unwrap();
    }

    /// Waits until both consumers of the service have no backlog.
    async fn caught_up(&self) {
        self.world.caught_up(&streams::ORDERS_SHIPPED).await;
        self.world.caught_up(&streams::ORDERS_COMPLETED).await;
    }

    async fn count_orders(&self) -> i64 {
        sqlx::query_scalar("SELECT count(*) FROM orders.product_orders")
            .fetch_one(&self.world.database.pool)
            .await
            .unwrap()
    }

    /// Counts the orders that are recorded as unpublished.
    async fn count_unpublished(&self) -> i64 {
        sqlx::query_scalar("SELECT count(*) FROM orders.late_orders WHERE unpublished")
            .fetch_one(&self.world.database.pool)
            .await
            .unwrap()
    }
}

/// Settings with which suppliers and deliveries take no time.
fn config(world: &World) -> Config {
    Config::new(world.db_config(), world.bus_config(), Duration::ZERO)
}

/// The statuses in the history of an order.
fn statuses(answer: &Answer) -> Vec<&str> {
    answer.body["history"].as_array().unwrap().iter().map(|step| step["status"].as_str().unwrap()).collect()
}
