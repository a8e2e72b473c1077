//! The queries that benchmarks share.

mod charges;
mod history;
mod words;

pub use charges::{charge_plainly, count_decisions, reset_accounts};
pub use history::{list_placed, newest_order_of, settle_ended, store_ended};
pub use words::{BRANDS, CATEGORIES, invent_words, store_named};

use chrono::{DateTime, Utc};
use off_events::{Order, OrderStatus};
use off_kit::Service;
use off_orders_service::OrdersService;
use serde::Serialize;
use sqlx::PgPool;
use uuid::Uuid;

/// Cents in the account of each person: more than any benchmark spends.
const MUCH_MONEY: i64 = 1_000_000_000_000;

/// Stores products, devices and people, numbered from 1. Each device belongs to a person of its own, who has much
/// money.
pub async fn seed_data(db: &PgPool, products: i64, devices: i64) -> sqlx::Result<()> {
    sqlx::query(
        "INSERT INTO catalog.products (barcode, number, name, quantity, nova_group, nutriscore_grade, last_modified)
         SELECT lpad(n::text, 13, '2000000000000'), n, 'Product ' || n, '500 g', 1, 'a', now()
         FROM generate_series(1, $1) AS n",
    )
    .bind(products)
    .execute(db)
    .await?;
    sqlx::query(
        "INSERT INTO users.users (first_name, last_name, email, registered_at, is_simulated)
         SELECT 'Ada', 'Example', 'owner' || n || '@example.org', now(), true FROM generate_series(1, $1) AS n",
    )
    .bind(devices)
    .execute(db)
    .await?;
    sqlx::query(
        "INSERT INTO users.devices (user_id, mac_address, is_simulated)
         -- Addresses of the devices that the generator simulates.
         SELECT n, regexp_replace(lpad(to_hex(n), 8, '0'), '(..)(..)(..)(..)', '02:0f:\\1:\\2:\\3:\\4'), true
         FROM generate_series(1, $1) AS n",
    )
    .bind(devices)
    .execute(db)
    .await?;
    sqlx::query(
        "WITH deposit AS (
             INSERT INTO billing.transfers (subject, kind, debit_account, credit_account, amount, at)
             SELECT gen_random_uuid(), 'deposit', 0, n, $2, now() FROM generate_series(1, $1) AS n
             RETURNING credit_account, amount
         )
         INSERT INTO billing.accounts (user_id, balance) SELECT credit_account, amount FROM deposit",
    )
    .bind(devices)
    .bind(MUCH_MONEY)
    .execute(db)
    .await?;
    sqlx::query("ANALYZE").execute(db).await?;
    Ok(())
}

/// Stores people who can sign in, numbered from 1: with [`email`] and the password of `password_hash`.
pub async fn seed_people(db: &PgPool, people: i64, password_hash: &str) -> sqlx::Result<()> {
    sqlx::query(
        "WITH person AS (
             INSERT INTO users.users (first_name, last_name, email, registered_at)
             SELECT 'Ada', 'Example', 'ada' || n || '@example.org', now() FROM generate_series(1, $1) AS n
             RETURNING id, email
         )
         INSERT INTO auth.accounts (user_id, email, password_hash, changed_at)
         SELECT id, email, $2, now() FROM person",
    )
    .bind(people)
    .bind(password_hash)
    .execute(db)
    .await?;
    sqlx::query("ANALYZE").execute(db).await?;
    Ok(())
}

/// Lets two people of [`seed_data`] sign in, one of them as an operator.
pub async fn add_accounts(db: &PgPool, person: i64, operator: i64, password_hash: &str) -> sqlx::Result<()> {
    sqlx::query(
        "INSERT INTO auth.accounts (user_id, email, password_hash, is_operator, changed_at)
         SELECT id, email, $3, id = $2, now() FROM users.users WHERE id IN ($1, $2)",
    )
    .bind(person)
    .bind(operator)
    .bind(password_hash)
    .execute(db)
    .await?;
    Ok(())
}

/// E-mail address of person `number`.
pub fn email(number: u64) -> String {
    format!("ada{number}@example.org")
}

/// Stores `count` completed orders, numbered from `first`.
pub async fn store_completed(db: &PgPool, first: i64, count: i64, devices: i64, products: i64) -> sqlx::Result<()> {
    // UUIDs of version 7, one for each millisecond since 2023-11-14.
    sqlx::query(
        "INSERT INTO orders.product_orders
             (id, ssd_id, user_id, barcode, quantity, unit_price, status, placed_at, paid_at, shipped_at, completed_at)
         SELECT (lpad(to_hex(1700000000000 + n), 12, '0') || '70008000' || lpad(to_hex(n), 12, '0'))::uuid,
                1 + n * 7919 % $3, 1 + n * 7919 % $3,
                lpad((1 + n * 104729 % $4)::text, 13, '2000000000000'), 1, 299, 'completed', placed_at, placed_at,
                placed_at + interval '1 minute', placed_at + interval '2 minutes'
         FROM generate_series($1, $1 + $2 - 1) AS n,
              LATERAL (SELECT to_timestamp((1700000000000 + n) / 1000.0) AS placed_at) AS time",
    )
    .bind(first)
    .bind(count)
    .bind(devices)
    .bind(products)
    .execute(db)
    .await?;
    Ok(())
}

/// Charges completed orders that are not charged yet, books the revenue, and writes the letters.
pub async fn settle_completed(db: &PgPool) -> sqlx::Result<()> {
    sqlx::query(
        "WITH charged AS (
             INSERT INTO billing.transfers (subject, kind, debit_account, credit_account, amount, at)
             SELECT id, 'charge', user_id, -1, unit_price * quantity, paid_at FROM orders.product_orders AS placed
             WHERE status = 'completed' AND NOT EXISTS (
                 SELECT FROM billing.transfers WHERE subject = placed.id AND kind = 'charge')
             RETURNING subject, debit_account, amount, at
         ), earned AS (
             INSERT INTO billing.transfers (subject, kind, debit_account, credit_account, amount, at)
             SELECT subject, 'earning', -1, -2, amount, at FROM charged
         ), told AS (
             INSERT INTO letters.letters (subject, kind, user_id, barcode, quantity, total, written_at)
             SELECT placed.id, kind::letters.letter_kind, user_id, barcode, quantity, amount, at
             FROM charged JOIN orders.product_orders AS placed ON placed.id = subject, unnest('{paid,delivered}'::text[]) AS kind
             ON CONFLICT DO NOTHING
         )
         UPDATE billing.accounts SET balance = balance - spent.amount
         FROM (SELECT debit_account, sum(amount)::bigint AS amount FROM charged GROUP BY debit_account) AS spent
         WHERE user_id = spent.debit_account",
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Moves recovery's checkpoints past all stored orders.
pub async fn advance_checkpoints(db: &PgPool) -> sqlx::Result<()> {
    sqlx::query(
        "UPDATE orders.checkpoints
         SET orders = (SELECT count(*) FROM orders.product_orders),
             through = coalesce((SELECT id FROM orders.product_orders ORDER BY id DESC LIMIT 1), through)",
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Deletes all orders and their events.
pub async fn delete_orders(db: &PgPool) -> sqlx::Result<()> {
    sqlx::query("TRUNCATE orders.product_orders, outbox.messages, bench.product_orders, billing.refusals, letters.letters CASCADE")
        .execute(db)
        .await?;
    sqlx::query("DELETE FROM billing.transfers WHERE kind <> 'deposit'").execute(db).await?;
    sqlx::query("UPDATE billing.accounts SET balance = $1").bind(MUCH_MONEY).execute(db).await?;
    Ok(())
}

/// Deletes dead rows and updates the statistics of the planner.
pub async fn vacuum(db: &PgPool) -> sqlx::Result<()> {
    sqlx::query("VACUUM ANALYZE").execute(db).await?;
    Ok(())
}

/// Writes all changed pages to the files, so that a measurement does not pay for what was stored before.
pub async fn checkpoint(db: &PgPool) -> sqlx::Result<()> {
    sqlx::query("CHECKPOINT").execute(db).await?;
    Ok(())
}

/// Bytes of the words of all products and of the vocabulary, with their indexes.
pub async fn search_bytes(db: &PgPool) -> sqlx::Result<i64> {
    let sizes = "SELECT pg_total_relation_size('catalog.search') + pg_total_relation_size('catalog.vocabulary')";
    sqlx::query_scalar(sizes).fetch_one(db).await
}

/// Counts the messages in the outbox.
pub async fn count_outbox(db: &PgPool) -> sqlx::Result<i64> {
    sqlx::query_scalar("SELECT count(*) FROM outbox.messages").fetch_one(db).await
}

/// Counts the orders.
pub async fn count_orders(db: &PgPool) -> sqlx::Result<i64> {
    sqlx::query_scalar("SELECT count(*) FROM orders.product_orders").fetch_one(db).await
}

/// Counts the deliveries.
pub async fn count_deliveries(db: &PgPool) -> sqlx::Result<i64> {
    sqlx::query_scalar("SELECT count(*) FROM users.deliveries").fetch_one(db).await
}

/// The table of the plain handler's orders.
pub const PLAIN_ORDERS: &str = "bench.product_orders";

/// Creates the table of the plain handler's orders, with the columns and indexes of the orders' table.
pub async fn create_plain_orders(db: &PgPool) -> sqlx::Result<()> {
    sqlx::query("CREATE SCHEMA bench").execute(db).await?;
    sqlx::query("CREATE TABLE bench.product_orders (LIKE orders.product_orders INCLUDING ALL)").execute(db).await?;
    Ok(())
}

/// An order of the plain handler, which is also its event and its answer.
#[derive(Debug, Serialize)]
pub(crate) struct PlainOrder {
    pub(crate) id: Uuid,
    pub(crate) ssd_id: i64,
    pub(crate) barcode: String,
    pub(crate) timestamp: DateTime<Utc>,
    pub(crate) quantity: i32,
    pub(crate) status: OrderStatus,
}

/// Stores an order of the plain handler and its event in one transaction.
pub(crate) async fn insert_plain_order(db: &PgPool, order: &PlainOrder) -> anyhow::Result<()> {
    let mut tx = db.begin().await?;
    sqlx::query(
        "INSERT INTO bench.product_orders (id, ssd_id, user_id, barcode, quantity, unit_price, placed_at)
         VALUES ($1, $2, 1, $3, $4, 299, $5)",
    )
    .bind(order.id)
    .bind(order.ssd_id)
    .bind(&order.barcode)
    .bind(order.quantity)
    .bind(order.timestamp)
    .execute(&mut *tx)
    .await?;
    sqlx::query(
        "INSERT INTO outbox.messages (source, subject, event_id, body, occurred_at) VALUES ($1, $2, $3, $4, $5)",
    )
    .bind(OrdersService::NAME)
    .bind(Order::PENDING)
    .bind(format!("{}:pending", order.id))
    .bind(serde_json::to_string(order)?)
    .bind(order.timestamp)
    .execute(&mut *tx)
    .await?;
    Ok(tx.commit().await?)
}
