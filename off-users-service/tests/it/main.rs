//! Black-box tests of the service over HTTP and NATS.

#![expect(clippy::unwrap_used, reason = "a failed helper fails the test that called it")]

mod auth_stand_in;
mod consumptions;
mod devices;
mod ended_orders;
mod invalid_requests;
mod new_people;
mod openapi;
mod outages;
mod ownership;
mod profiles;
mod program;
mod registration;
mod shelf_items;
mod shelves;

use async_nats::jetstream::Message;
use off_events::{Order, OrderStatus, StockConsumed, StockLow, streams};
use off_kit::Clock;
use off_testkit::{Answer, Http, Leftover, Running, World, eventually};
use off_users_service::{Config, UsersService};
use serde_json::{Value, json};
use url::Url;
use uuid::Uuid;

/// A URL on which nothing listens.
const NO_AUTH_SERVICE: &str = "http://127.0.0.1:1";

/// A registered person.
struct Person {
    id: i64,
    ssds: Vec<i64>,
    answer: Answer,
}

impl Person {
    fn of(answer: Answer) -> Self {
        assert_eq!(answer.status, 201, "{answer:?}");
        let devices = answer.body["devices"].as_array().unwrap();
        let ssds = devices.iter().map(|device| device["ssd_id"].as_i64().unwrap()).collect();
        Self { id: answer.body["user_id"].as_i64().unwrap(), ssds, answer }
    }
}

/// The running service with a private database and NATS server.
struct Users {
    world: World,
    service: Running,
}

impl Users {
    async fn start() -> Self {
        Self::start_in(World::new().await).await
    }

    async fn start_in(world: World) -> Self {
        Self::start_with(world, Clock::real(1.0)).await
    }

    async fn start_with(world: World, clock: Clock) -> Self {
        Self::start_beside(world, clock, NO_AUTH_SERVICE.parse().unwrap()).await
    }

    /// Starts the service with this URL of the auth service.
    async fn start_beside(world: World, clock: Clock, auth_url: Url) -> Self {
        let config = Config { db: world.db_config(), bus: world.bus_config(), auth_url };
        let service = Running::start_ready::<UsersService>(config, clock).await;
        Self { world, service }
    }

    fn http(&self) -> &Http {
        &self.service.http
    }

    fn health(&self) -> &Http {
        &self.service.health
    }

    /// Registers a person without a token, as people do.
    async fn register_person(&self, email: &str, mac_addresses: &[&str]) -> Person {
        Person::of(self.http().anonymous().post("/api/register", &ada(email, mac_addresses)).await)
    }

    /// Registers a person as a client that simulates people does.
    async fn register_simulated(&self, email: &str, mac_addresses: &[&str]) -> Person {
        Person::of(self.http().post("/api/register", &ada(email, mac_addresses)).await)
    }

    /// The security log: kind, subject, address and detail, the oldest first.
    async fn security_events(&self) -> Vec<(String, String, String, String)> {
        sqlx::query_as("SELECT kind, subject, address, detail FROM auth.security_events ORDER BY id")
            .fetch_all(&self.world.database.pool)
            .await
            .unwrap()
    }

    /// The number of rows of a table.
    async fn count(&self, table: &'static str) -> i64 {
        let query = sqlx::AssertSqlSafe(format!("SELECT count(*) FROM {table}"));
        sqlx::query_scalar(query).fetch_one(&self.world.database.pool).await.unwrap()
    }

    /// All rows that a registration writes, as text.
    async fn dump(&self) -> String {
        let mut dump = String::new();
        for table in [
            "users.users",
            "users.devices",
            "auth.accounts",
            "auth.device_keys",
            "auth.security_events",
            "outbox.messages",
        ] {
            let query = sqlx::AssertSqlSafe(format!("SELECT rows::text FROM {table} AS rows"));
            let rows: Vec<String> = sqlx::query_scalar(query).fetch_all(&self.world.database.pool).await.unwrap();
            dump += &rows.join("\n");
        }
        dump
    }

    /// Registers Ada, who is simulated, with a device for each of these MAC addresses.
    async fn register(&self, mac_addresses: &[&str]) -> Answer {
        self.http().post("/api/register", &ada("ada@example.org", mac_addresses)).await
    }

    /// Completes a new order of a device, so that its units are delivered; returns the order.
    async fn deliver(&self, ssd: i64, barcode: &str, quantity: i64) -> Value {
        let order = order_of(ssd, barcode, quantity, OrderStatus::Completed);
        self.complete(&order).await;
        order
    }

    /// Publishes the event that `order` is completed.
    async fn complete(&self, order: &Value) {
        self.world.nats.publish(Order::COMPLETED, order).await;
    }

    /// Publishes the report `id` that `quantity` units were consumed from the shelf of a device.
    async fn consume(&self, id: &str, ssd: i64, barcode: &str, quantity: i64) {
        self.world.nats.publish(StockConsumed::SUBJECT, &consumption(id, ssd, barcode, quantity)).await;
    }

    /// Waits until the shelf of a device holds `quantity` units of a product.
    async fn assert_shelf_holds(&self, ssd: i64, barcode: &str, quantity: i64) {
        eventually(&format!("{quantity} of {barcode} on the shelf of {ssd}"), || async {
            let device = self.http().get(&format!("/api/devices/{ssd}")).await;
            let items = device.body["shelf"].as_array()?;
            let found = items.iter().find(|item| item["barcode"] == barcode)?;
            (found["quantity"] == quantity).then_some(())
        })
        .await;
    }

    /// Waits until there are `count` messages that a product is low; returns them.
    async fn wait_for_low(&self, count: usize) -> Vec<Message> {
        self.world.nats.wait_for_messages(streams::STOCK.name, StockLow::SUBJECT, count).await
    }

    /// Waits until both consumers of the service have no backlog.
    async fn wait_until_caught_up(&self) {
        self.world.nats.wait_until_caught_up(&streams::SHELVES_DELIVERED).await;
        self.world.nats.wait_until_caught_up(&streams::SHELVES_CONSUMED).await;
    }

    /// Waits until the service has handled everything, stops it, and asserts that the test leaves nothing behind.
    async fn end(self) {
        self.end_leaving(&[]).await;
    }

    /// [`Users::end`] of a test that leaves exactly these kinds of leftovers behind.
    async fn end_leaving(self, leftovers: &[Leftover]) {
        self.world.end_after(vec![self.service], leftovers).await;
    }
}

/// The body of a new order of a device with this status, which was placed long ago.
fn order_of(ssd: i64, barcode: &str, quantity: i64, status: OrderStatus) -> Value {
    let euros = |cents: i64| json!({"amount": cents, "currency": "EUR"});
    json!({"id": Uuid::now_v7(), "ssd_id": ssd, "user_id": 1, "barcode": barcode, "quantity": quantity,
        "unit_price": euros(299), "total": euros(299 * quantity), "timestamp": "2026-01-01T00:00:00Z", "status": status})
}

/// The report `id` of a device that `quantity` units were consumed.
fn consumption(id: &str, ssd: i64, barcode: &str, quantity: i64) -> Value {
    json!({"id": id, "ssd_id": ssd, "barcode": barcode, "timestamp": "2026-01-01T00:00:00Z", "quantity": quantity})
}

/// The body of a registration with these devices.
fn ada(email: &str, mac_addresses: &[&str]) -> Value {
    let devices: Vec<Value> = mac_addresses.iter().map(|address| json!({"mac_address": address})).collect();
    json!({
        "user": {"first_name": "Ada", "last_name": "Example", "email": email, "password": "correct horse battery"},
        "devices": devices,
    })
}
