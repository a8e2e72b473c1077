//! Tests of the billing service over HTTP and NATS.

#![expect(clippy::unwrap_used, reason = "a panic fails the test")]

mod accounts;
mod charges;
mod concurrency;
mod ends;
mod faults;
mod openapi;
mod outages;
mod payments;
mod program;
mod replicas;

use off_billing_service::{BillingService, Config};
use off_events::{
    Event, Money, Order, OrderId, OrderStatus, Quantity, SsdId, UserId,
    streams::{self, BILLING_CANCELLED, BILLING_COMPLETED, BILLING_PENDING, BILLING_REGISTERED},
};
use off_kit::Clock;
use off_testkit::{Http, LENTILS, Leftover, Running, World, eventually};
use serde_json::{Value, json};
use sqlx::PgPool;
use uuid::Uuid;

/// A running service with its own Postgres database and NATS server.
struct Billing {
    world: World,
    service: Running,
}

impl Billing {
    async fn start() -> Self {
        Self::start_in(World::new().await).await
    }

    async fn start_in(world: World) -> Self {
        let service = start_service(&world).await;
        Self { world, service }
    }

    fn http(&self) -> &Http {
        &self.service.http
    }

    fn db(&self) -> &PgPool {
        &self.world.database.pool
    }

    /// The balance of a person and what is held for orders, in cents.
    async fn account(&self, user: i64) -> (i64, i64) {
        let answer = self.http().get(&format!("/api/account?user_id={user}")).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        (cents(&answer.body["balance"]), cents(&answer.body["held"]))
    }

    /// Waits until the consumers of the service have no backlog.
    async fn wait_until_caught_up(&self) {
        wait_until_caught_up(&self.world).await;
    }

    /// Publishes orders, and waits until they are handled.
    async fn handle(&self, orders: &[&Order]) {
        for order in orders {
            publish(&self.world, order).await;
        }
        self.wait_until_caught_up().await;
    }

    /// Waits until the service has handled everything, stops it, and asserts that the books balance and that the test
    /// leaves nothing behind.
    async fn end(self) {
        self.end_leaving(&[]).await;
    }

    /// [`Billing::end`] of a test that leaves exactly these kinds of leftovers behind.
    async fn end_leaving(self, leftovers: &[Leftover]) {
        assert_books_balance(self.db()).await;
        self.world.end_after(vec![self.service], leftovers).await;
    }
}

async fn start_service(world: &World) -> Running {
    let config = Config { db: world.db_config(), bus: world.bus_config() };
    Running::start_ready::<BillingService>(config, Clock::real(1.0)).await
}

/// Waits until the consumers of the service have no backlog.
async fn wait_until_caught_up(world: &World) {
    for consumer in [BILLING_REGISTERED, BILLING_PENDING, BILLING_COMPLETED, BILLING_CANCELLED] {
        world.nats.wait_until_caught_up(&consumer).await;
    }
}

/// Inserts a simulated person without an account; returns its id.
async fn add_person(world: &World) -> i64 {
    let device = world.add_device().await;
    sqlx::query_scalar("SELECT user_id FROM users.devices WHERE id = $1")
        .bind(device)
        .fetch_one(&world.database.pool)
        .await
        .unwrap()
}

/// Inserts a simulated person who has paid in these cents; returns its id.
async fn add_person_with(world: &World, cents: i64) -> i64 {
    let user = add_person(world).await;
    sqlx::query(
        "WITH account AS (INSERT INTO billing.accounts VALUES ($1, $2))
         INSERT INTO billing.transfers (subject, kind, debit_account, credit_account, amount, at)
         SELECT gen_random_uuid(), 'deposit', 0, $1, $2, now() WHERE $2 > 0",
    )
    .bind(user)
    .bind(cents)
    .execute(&world.database.pool)
    .await
    .unwrap();
    user
}

/// A new pending order of a person that costs these cents.
fn order(user: i64, cents: i64) -> Order {
    let price = Money::from_cents(cents).unwrap();
    Order {
        id: OrderId(Uuid::now_v7()),
        ssd_id: SsdId(1),
        user_id: UserId(user),
        barcode: LENTILS.parse().unwrap(),
        timestamp: Clock::real(1.0).now(),
        quantity: Quantity::try_from(1).unwrap(),
        unit_price: price,
        total: price,
        status: OrderStatus::Pending,
        refusal: None,
    }
}

/// Publishes the event of an order, without an id by which the broker would deduplicate it.
async fn publish(world: &World, order: &Order) {
    world.nats.publish(order.subject(), &json!(order)).await;
}

/// The orders that were published on the subject of a status, oldest first.
async fn published(world: &World, status: OrderStatus) -> Vec<Order> {
    let messages = world.nats.messages(streams::ORDERS.name, status.subject()).await;
    messages.iter().map(|message| serde_json::from_slice(&message.payload).unwrap()).collect()
}

/// The ids of [`published`].
async fn published_ids(world: &World, status: OrderStatus) -> Vec<OrderId> {
    published(world, status).await.iter().map(|order| order.id).collect()
}

/// The number of rows that a query counts.
async fn count(db: &PgPool, query: &'static str) -> i64 {
    sqlx::query_scalar(query).fetch_one(db).await.unwrap()
}

/// Waits until the service waits for a lock in the database.
async fn wait_until_blocked(db: &PgPool) {
    eventually("the service waits for a lock", || async {
        let waits = "SELECT count(*) FROM pg_stat_activity
                     WHERE datname = current_database() AND application_name = 'off-billing' AND wait_event_type = 'Lock'";
        (count(db, waits).await > 0).then_some(())
    })
    .await;
}

/// Asserts that no transaction was rolled back because of a deadlock. Call it after the services have stopped: their
/// sessions report their numbers when they end.
async fn assert_no_deadlocks(db: &PgPool) {
    assert_eq!(count(db, "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()").await, 0);
}

/// An amount of this many cents, as bodies have it.
fn euros(cents: i64) -> Value {
    json!({"amount": cents, "currency": "EUR"})
}

/// The cents of an amount in a body.
fn cents(amount: &Value) -> i64 {
    assert_eq!(amount["currency"], "EUR");
    amount["amount"].as_i64().unwrap()
}

/// Asserts that every balance is the sum of the transfers of its account.
async fn assert_books_balance(db: &PgPool) {
    let wrong: Vec<(i64, i64, i64)> = sqlx::query_as(
        "SELECT user_id, balance, expected FROM billing.accounts, LATERAL (
             SELECT (coalesce(sum(amount) FILTER (WHERE credit_account = user_id), 0)
                     - coalesce(sum(amount) FILTER (WHERE debit_account = user_id), 0))::bigint AS expected
             FROM billing.transfers) AS booked
         WHERE balance <> expected",
    )
    .fetch_all(db)
    .await
    .unwrap();
    assert!(wrong.is_empty(), "person, balance, sum of the transfers: {wrong:?}");
}
