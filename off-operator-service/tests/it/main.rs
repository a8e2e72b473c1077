//! Tests of the operator service over HTTP, with a real Postgres and a real NATS.

#![expect(clippy::unwrap_used, reason = "a panic fails the test")]

mod audits;
mod dead_letters;
mod faults;
mod openapi;
mod program;
mod system;

use off_events::{
    headers::{DEAD_REASON, DEAD_SUBJECT, DEAD_TIME},
    streams::Consumer,
};
use off_kit::Clock;
use off_operator_service::{Config, OperatorService};
use off_testkit::{Http, Leftover, Running, World};
use std::time::Duration;

/// A running service with its own Postgres database and NATS server.
struct Operator {
    world: World,
    service: Running,
}

impl Operator {
    async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// A service with changed settings.
    async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        let world = World::new().await;
        let mut config =
            Config { db: world.db_config(), bus: world.bus_config(), audit_patience: Duration::from_millis(100) };
        change(&mut config);
        let service = Running::start_ready::<OperatorService>(config, Clock::real(1.0)).await;
        Self { world, service }
    }

    /// A client with the token of a client that operates.
    fn http(&self) -> &Http {
        &self.service.http
    }

    /// Stores a dead letter of `consumer` that came from `subject` at this second of the year 2026.
    async fn add_dead_letter(&self, consumer: &Consumer, subject: &str, reason: &str, second: u32, body: &str) {
        let mut headers = async_nats::HeaderMap::new();
        headers.insert(DEAD_SUBJECT, subject);
        headers.insert(DEAD_REASON, reason);
        headers.insert(DEAD_TIME, format!("2026-01-01T00:00:{second:02}.000Z").as_str());
        self.world.nats.publish_with_headers(consumer.dead_subject(), headers, body.to_owned()).await;
    }

    async fn end(self, leftovers: &[Leftover]) {
        self.world.end_after(vec![self.service], leftovers).await;
    }
}
