//! The orders service, seen from outside: over HTTP and on the bus.

#![expect(clippy::unwrap_used, reason = "what goes wrong here fails the test that asked")]

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

/// The service with a world of its own, in which device `ssd` is registered.
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
        let ssd = world.add_device().await;
        let service = Running::start_ready::<OrdersService>(config(&world), Clock::real(1.0)).await;
        Self { world, service, ssd }
    }

    fn http(&self) -> &Http {
        &self.service.http
    }

    fn health(&self) -> &Http {
        &self.service.health
    }

    fn wish(&self, barcode: &str, quantity: i64) -> Value {
        json!({"ssd_id": self.ssd, "barcode": barcode, "quantity": quantity})
    }

    /// Places an order that has to be taken.
    async fn place(&self, barcode: &str, quantity: i64) -> Value {
        let answer = self.http().post("/api/orders", &self.wish(barcode, quantity)).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.body
    }

    async fn find(&self, order: &Value) -> Answer {
        self.http().get(&format!("/api/orders/{}", order["id"].as_str().unwrap())).await
    }

    /// Says on the bus that `order` has come to `status` at `at`.
    async fn say(&self, order: &Value, status: &str, at: DateTime<Utc>) {
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

    /// Orders that the broker has yet to acknowledge, after it failed to.
    async fn count_unpublished(&self) -> i64 {
        sqlx::query_scalar("SELECT count(*) FROM orders.late_orders WHERE unpublished")
            .fetch_one(&self.world.database.pool)
            .await
            .unwrap()
    }
}

/// The settings where suppliers and deliveries take no time.
fn config(world: &World) -> Config {
    Config::new(world.db_config(), world.bus_config(), Duration::ZERO)
}

/// The states of an order's history.
fn states(answer: &Answer) -> Vec<&str> {
    answer.body["history"].as_array().unwrap().iter().map(|step| step["status"].as_str().unwrap()).collect()
}
