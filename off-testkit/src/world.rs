//! The common fixture: a database with three products, and a NATS server.

use crate::{BISCUITS, Database, LENTILS, TEA, TestNats, add_product, eventually};
use async_nats::jetstream::Message;
use off_kit::{bus, db};
use serde_json::Value;

/// A private database and a private NATS server.
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
        Self::with(Database::in_own().await, TestNats::new().await).await
    }

    async fn with(database: Database, nats: TestNats) -> Self {
        for (barcode, name) in [(LENTILS, "Red lentils"), (TEA, "Green tea"), (BISCUITS, "Oat biscuits")] {
            add_product(&database.pool, barcode, name).await;
        }
        Self { database, nats }
    }

    /// Inserts a person with one device into the database; returns the device's id.
    pub async fn add_device(&self) -> i64 {
        let number: i64 = sqlx::query_scalar("SELECT count(*) FROM users.devices")
            .fetch_one(&self.database.pool)
            .await
            .expect("the devices can be counted");
        sqlx::query_scalar(
            "WITH person AS (
                 INSERT INTO users.users (first_name, last_name, email, password_hash, registered_at)
                 VALUES ('Test', 'Person', 'person' || $1 || '@example.org', '-', now()) RETURNING id
             )
             INSERT INTO users.devices (user_id, mac_address)
             SELECT id, '02:00:00:00:00:' || lpad(to_hex($1), 2, '0') FROM person RETURNING id",
        )
        .bind(number)
        .fetch_one(&self.database.pool)
        .await
        .expect("the device is inserted")
    }

    /// Settings of a service's connections to the database.
    pub fn db_config(&self) -> db::Config {
        db::Config::at(&self.database.url, 5)
    }

    /// Settings of a service's connection to NATS.
    pub fn bus_config(&self) -> bus::Config {
        bus::Config::at(&self.nats.url)
    }

    /// Publishes a message on a stream's `subject` without headers, as a minimal device does.
    pub async fn publish(&self, subject: &'static str, body: &Value) {
        self.publish_bytes(subject, body.to_string().into_bytes()).await;
    }

    /// [`World::publish`] with any body.
    pub async fn publish_bytes(&self, subject: &'static str, body: Vec<u8>) {
        let sent = self.nats.bus.jetstream.publish(subject, body.into()).await.expect("the message is sent");
        sent.await.expect("the stream acknowledges the message");
    }

    /// The messages of a stream on `subject`, oldest first.
    pub async fn messages(&self, stream: &str, subject: &str) -> Vec<Message> {
        self.nats.bus.read(stream, subject, 1).await.expect("the stream can be read")
    }

    /// Waits until a stream has `count` messages on `subject`.
    pub async fn wait_for_messages(&self, stream: &str, subject: &str, count: usize) -> Vec<Message> {
        eventually(&format!("{count} messages on {subject}"), || async {
            let messages = self.messages(stream, subject).await;
            (messages.len() >= count).then_some(messages)
        })
        .await
    }

    /// Waits until there are `count` dead letters.
    pub async fn wait_for_dead_letters(&self, count: usize) -> Vec<bus::dead_letters::DeadLetter> {
        eventually(&format!("{count} dead letters"), || async {
            let letters = bus::dead_letters::list(&self.nats.bus).await.expect("the dead letters can be read");
            (letters.len() >= count).then_some(letters)
        })
        .await
    }

    /// Waits until `consumer` has no pending and no unacknowledged messages.
    pub async fn caught_up(&self, consumer: &off_events::streams::Consumer) {
        eventually(&format!("{} has caught up", consumer.name), || async {
            let waiting = self.nats.bus.waiting(consumer).await.ok()?;
            (waiting.pending == 0 && waiting.unacknowledged == 0).then_some(())
        })
        .await;
    }
}
