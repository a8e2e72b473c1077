//! Tests of the orders service over HTTP and NATS.

#![expect(clippy::unwrap_used, reason = "a panic fails the test")]

mod cancellation;
mod events;
mod freezable;
mod invalid_requests;
mod long_polls;
mod messages;
mod openapi;
mod orders;
mod outages;
mod prices;
mod products;
mod program;
mod recovery;
mod shipping;

use async_nats::jetstream::Message;
use chrono::{DateTime, Utc};
use off_events::{
    Order, OrderId, OrderStatus, ReadyToShip, ShipReply, ShipRequest,
    headers::{CE_ID, CE_TIME},
    streams,
};
use off_kit::Clock;
use off_orders_service::{Config, OrdersService};
use off_testkit::{Answer, Http, Leftover, Running, World, eventually};
use reqwest::Method;
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

    /// Publishes the event that `order` was paid now.
    async fn pay(&self, order: &Value) {
        self.pay_at(order, Clock::real(1.0).now()).await;
    }

    async fn pay_at(&self, order: &Value, at: DateTime<Utc>) {
        self.publish(order, OrderStatus::Paid, at).await;
    }

    /// Publishes the event that `order` was refused, because these cents were missing.
    async fn refuse(&self, order: &Value, missing: i64) {
        let mut order = order.clone();
        order["refusal"] = json!({"reason": "insufficient_funds", "missing": euros(missing)});
        self.publish(&order, OrderStatus::Refused, Clock::real(1.0).now()).await;
    }

    /// Requests that `order` is shipped now, and asserts that it is.
    async fn ship(&self, order: &Value) {
        self.ship_at(order, Clock::real(1.0).now()).await;
    }

    async fn ship_at(&self, order: &Value, at: DateTime<Utc>) {
        assert_eq!(self.request_shipping(&[order], at).await, [id_of(order)]);
    }

    /// Requests that these orders are shipped, as the notifications service does when the wait of the supplier is over.
    /// Returns those that are, in the order of the request.
    async fn request_shipping(&self, orders: &[&Value], at: DateTime<Utc>) -> Vec<OrderId> {
        let asked: Vec<OrderId> = orders.iter().map(|order| id_of(order)).collect();
        let request = ShipRequest { orders: asked.iter().map(|&id| ReadyToShip { id, at }).collect() };
        let reply: ShipReply = self.world.nats.bus.request(ShipRequest::SUBJECT, &request).await.unwrap();
        assert!(reply.shipped.iter().all(|id| asked.contains(id)), "{reply:?}");
        asked.into_iter().filter(|id| reply.shipped.contains(id)).collect()
    }

    /// Cancels `order`, as the client of the tests.
    async fn cancel(&self, order: &Value) -> Answer {
        cancel(self.http(), order).await
    }

    /// Publishes the event that `order` was completed now.
    async fn complete(&self, order: &Value) {
        self.complete_at(order, Clock::real(1.0).now()).await;
    }

    async fn complete_at(&self, order: &Value, at: DateTime<Utc>) {
        self.publish(order, OrderStatus::Completed, at).await;
    }

    /// Publishes the event that `order` reached `status` at `at`.
    async fn publish(&self, order: &Value, status: OrderStatus, at: DateTime<Utc>) {
        let mut order = order.clone();
        order["status"] = json!(status);
        let mut headers = async_nats::HeaderMap::new();
        headers.insert(CE_TIME, at.to_rfc3339().as_str());
        headers.insert(CE_ID, format!("{}:{status}", order["id"].as_str().unwrap()).as_str());
        self.world.nats.publish_with_headers(status.subject(), headers, order.to_string()).await;
    }

    /// Waits until there are `count` messages that an order is pending; returns them.
    async fn wait_for_announcements(&self, count: usize) -> Vec<Message> {
        self.world.nats.wait_for_messages(streams::ORDERS.name, Order::PENDING, count).await
    }

    /// Waits until `order` has this status.
    async fn wait_for_status(&self, order: &Value, status: &str) {
        eventually(&format!("the order is {status}"), || async {
            (self.find(order).await.body["status"] == status).then_some(())
        })
        .await;
    }

    /// Asserts that the history of `order` has these statuses, and that it has the last of them.
    async fn assert_statuses(&self, order: &Value, expected: &[&str]) {
        let found = self.find(order).await;
        assert_eq!(statuses(&found), expected);
        assert_eq!(found.body["status"], expected[expected.len() - 1]);
    }

    /// Waits until the consumers of the service have no backlog.
    async fn wait_until_caught_up(&self) {
        for consumer in [streams::ORDERS_PAID, streams::ORDERS_REFUSED, streams::ORDERS_COMPLETED] {
            self.world.nats.wait_until_caught_up(&consumer).await;
        }
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

    /// Waits until no order is recorded as unpublished.
    async fn wait_until_all_are_published(&self) {
        eventually("all orders are published", || async { (self.count_unpublished().await == 0).then_some(()) }).await;
    }

    /// Waits until the service has handled everything, stops it, and asserts that the test leaves nothing behind.
    async fn end(self) {
        self.end_leaving(&[]).await;
    }

    /// [`Orders::end`] of a test that leaves exactly these kinds of leftovers behind.
    async fn end_leaving(self, leftovers: &[Leftover]) {
        self.world.end_after(vec![self.service], leftovers).await;
    }
}

/// Settings with which suppliers and deliveries take no time.
fn config(world: &World) -> Config {
    Config::new(world.db_config(), world.bus_config(), Duration::ZERO)
}

/// Cancels `order` with the token of `http`.
async fn cancel(http: &Http, order: &Value) -> Answer {
    let path = format!("/api/orders/{}/cancel", order["id"].as_str().unwrap());
    http.send(http.request(Method::POST, &path)).await
}

/// The id of an order from its body.
fn id_of(order: &Value) -> OrderId {
    OrderId(order["id"].as_str().unwrap().parse().unwrap())
}

/// An amount of this many cents, as bodies have it.
fn euros(cents: i64) -> Value {
    json!({"amount": cents, "currency": "EUR"})
}

/// The statuses in the history of an order.
fn statuses(answer: &Answer) -> Vec<&str> {
    answer.body["history"].as_array().unwrap().iter().map(|step| step["status"].as_str().unwrap()).collect()
}
