//! The common fixture: a database with three products, and a NATS server.

use crate::{BISCUITS, Database, LENTILS, Leftover, Running, TEA, TestNats, add_product};
use off_kit::{bus, db};

/// A private database and a private NATS server. A test finishes it with [`World::end`] or a method like it; dropping
/// it otherwise is a panic.
#[derive(Debug)]
pub struct World {
    /// The database.
    pub database: Database,
    /// The NATS server.
    pub nats: TestNats,
}

impl World {
    /// A migrated database with lentils, tea and biscuits in the catalog, and a NATS with all streams.
    pub async fn new() -> Self {
        Self::with(Database::new().await, TestNats::new().await).await
    }

    /// [`World::new`] with a private Postgres server.
    pub async fn with_own_postgres() -> Self {
        Self::with(Database::with_own_server().await, TestNats::new().await).await
    }

    async fn with(database: Database, nats: TestNats) -> Self {
        for (barcode, name) in [(LENTILS, "Red lentils"), (TEA, "Green tea"), (BISCUITS, "Oat biscuits")] {
            add_product(&database.pool, barcode, name).await;
        }
        Self { database, nats }
    }

    /// Inserts a simulated person with one device into the database; returns the device's id.
    pub async fn add_device(&self) -> i64 {
        let number: i64 = sqlx::query_scalar("SELECT count(*) FROM users.devices")
            .fetch_one(&self.database.pool)
            .await
            .expect("the devices can be counted");
        sqlx::query_scalar(
            "WITH person AS (
                 INSERT INTO users.users (first_name, last_name, email, registered_at, is_simulated)
                 VALUES ('Test', 'Person', 'person' || $1 || '@example.org', now(), true) RETURNING id
             )
             INSERT INTO users.devices (user_id, mac_address, is_simulated)
             SELECT id, '02:00:00:00:00:' || lpad(to_hex($1), 2, '0'), true FROM person RETURNING id",
        )
        .bind(number)
        .fetch_one(&self.database.pool)
        .await
        .expect("the device is inserted")
    }

    /// The person who owns a device.
    pub async fn owner_of(&self, ssd_id: i64) -> i64 {
        let owner = sqlx::query_scalar("SELECT user_id FROM users.devices WHERE id = $1").bind(ssd_id);
        owner.fetch_one(&self.database.pool).await.expect("the device exists")
    }

    /// Deposits money into the account of a person.
    pub async fn give_money(&self, user_id: i64, cents: i64) {
        sqlx::query(
            "WITH deposit AS (
                 INSERT INTO billing.transfers (subject, kind, debit_account, credit_account, amount, at)
                 VALUES (gen_random_uuid(), 'deposit', 0, $1, $2, now())
             )
             INSERT INTO billing.accounts (user_id, balance) VALUES ($1, $2)
             ON CONFLICT (user_id) DO UPDATE SET balance = accounts.balance + excluded.balance",
        )
        .bind(user_id)
        .bind(cents)
        .execute(&self.database.pool)
        .await
        .expect("the money is deposited");
    }

    /// Settings of a service's connections to the database.
    pub fn db_config(&self) -> db::Config {
        db::Config::at(&self.database.url, 5)
    }

    /// Settings of a service's connection to NATS.
    pub fn bus_config(&self) -> bus::Config {
        bus::Config::at(&self.nats.url)
    }

    /// Ends the test: asserts that it leaves no outbox rows, no unacknowledged messages and no dead letters behind.
    /// Waits 45 seconds for what is still being handled.
    pub async fn end(self) {
        self.end_leaving(&[]).await;
    }

    /// [`World::end`] of a test that leaves exactly these kinds of leftovers behind.
    pub async fn end_leaving(self, leftovers: &[Leftover]) {
        self.end_after(Vec::new(), leftovers).await;
    }

    /// [`World::end_leaving`], after `services` have handled all their messages. Stops them one after another.
    pub async fn end_after(self, services: Vec<Running>, leftovers: &[Leftover]) {
        Box::pin(self.nats.end_with(Some(&self.database.pool), services, leftovers)).await;
    }

    /// Ends the test without a check: its broker or its Postgres is dead, or lost what the check needs.
    pub fn abandon(self) {
        self.nats.abandon();
    }
}
