//! The end of a test: it leaves nothing behind, or says what it leaves.

use crate::{Running, TestNats};
use anyhow::Context;
use async_nats::jetstream::context::{ConsumerInfoError, ConsumerInfoErrorKind};
use off_events::streams::{CONSUMERS, Consumer};
use off_kit::{Bus, bus::dead_letters};
use sqlx::PgPool;
use std::{thread, time::Duration};
use tokio::time::{Instant, sleep, timeout};

/// How long the end of a test waits for outstanding work: longer than the ack wait of 30 s, after which the broker
/// delivers a message again that was on its way to a service when that stopped.
const TIMEOUT: Duration = Duration::from_secs(if cfg!(test) { 3 } else { 45 });

/// How many leftovers a failure lists.
const MAX_SHOWN: usize = 20;

const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// What a test may leave behind on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leftover {
    /// Rows in the outbox, which the relay did not publish.
    OutboxRows,
    /// Messages that a consumer received and did not acknowledge. Messages that it did not receive yet do not count.
    UnacknowledgedMessages,
    /// Messages that became dead letters.
    DeadLetters,
}

/// Whether the services of the test were stopped by its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stopped {
    No,
    JustNow,
}

/// Something that a test left behind.
struct Found {
    /// `None` if no test may leave it behind.
    kind: Option<Leftover>,
    /// What it is, for the person who reads the failure.
    description: String,
}

/// Panics when it is dropped while armed, so that no test forgets to check what it leaves behind.
#[derive(Debug)]
pub(crate) struct EndGuard {
    is_armed: bool,
}

impl EndGuard {
    /// Panics when it is dropped, until [`EndGuard::disarm`].
    pub(crate) fn armed() -> Self {
        Self { is_armed: true }
    }

    /// Never panics.
    pub(crate) fn unarmed() -> Self {
        Self { is_armed: false }
    }

    fn disarm(&mut self) {
        self.is_armed = false;
    }
}

impl Drop for EndGuard {
    fn drop(&mut self) {
        assert!(
            !self.is_armed || thread::panicking(),
            "the test did not check what it leaves behind: finish it with `end`, `end_leaving` or `abandon`"
        );
    }
}

impl TestNats {
    /// Ends the test: asserts that it leaves neither unacknowledged messages nor dead letters behind. Waits 45 seconds
    /// for what is still being handled.
    pub async fn end(self) {
        self.end_leaving(&[]).await;
    }

    /// [`TestNats::end`] of a test that leaves exactly these kinds of leftovers behind.
    pub async fn end_leaving(self, leftovers: &[Leftover]) {
        self.end_after(Vec::new(), leftovers).await;
    }

    /// [`TestNats::end_leaving`], after `services` have handled all their messages. Stops them one after another.
    pub async fn end_after(self, services: Vec<Running>, leftovers: &[Leftover]) {
        self.end_with(None, services, leftovers).await;
    }

    /// Ends the test without a check: its broker is dead, or lost what the check needs.
    pub fn abandon(mut self) {
        self.end_guard.disarm();
    }

    /// [`TestNats::end_after`]; with a database, its outbox is checked too.
    pub(crate) async fn end_with(mut self, db: Option<&PgPool>, services: Vec<Running>, leftovers: &[Leftover]) {
        let running: Vec<&str> = services.iter().map(Running::name).collect();
        assert_left(&self.bus, db, &running, leftovers, Stopped::No).await;
        if !services.is_empty() {
            for service in services {
                service.stop().await;
            }
            assert_left(&self.bus, db, &[], leftovers, Stopped::JustNow).await;
        }
        self.end_guard.disarm();
    }
}

/// Waits until the services `running` have handled all messages, and exactly the `expected` kinds of leftovers exist.
/// Panics with a list of the others after [`TIMEOUT`].
async fn assert_left(bus: &Bus, db: Option<&PgPool>, running: &[&str], expected: &[Leftover], stopped: Stopped) {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        let found = timeout(TIMEOUT, find_leftovers(bus, db, running)).await.context("no answer in time");
        let problem = match found.flatten() {
            Ok(mut found) => {
                // The broker may have sent a message to a service while that stopped. It would deliver it again to the
                // next one, after the ack wait.
                let is_on_its_way = |found: &Found| {
                    let kind = Leftover::UnacknowledgedMessages;
                    stopped == Stopped::JustNow && found.kind == Some(kind) && !expected.contains(&kind)
                };
                found.retain(|found| !is_on_its_way(found));
                compare(&found, expected)
            }
            Err(error) => Some(format!(
                "cannot check what the test leaves behind; if its servers are dead on purpose, finish it with \
                 `abandon`: {error:#}"
            )),
        };
        let Some(problem) = problem else { return };
        assert!(Instant::now() < deadline, "{problem}");
        sleep(POLL_INTERVAL).await;
    }
}

/// Describes the difference between what was found and what is expected; `None` if there is none.
fn compare(found: &[Found], expected: &[Leftover]) -> Option<String> {
    let is_expected = |found: &&Found| found.kind.is_some_and(|kind| expected.contains(&kind));
    let unexpected: Vec<&str> =
        found.iter().filter(|found| !is_expected(found)).map(|found| found.description.as_str()).collect();
    if !unexpected.is_empty() {
        let shown = unexpected[..unexpected.len().min(MAX_SHOWN)].join("\n  ");
        return Some(format!(
            "left behind by the test ({}):\n  {shown}\nIf that is its purpose, finish it with `end_leaving`.",
            unexpected.len()
        ));
    }
    let missing = expected.iter().find(|kind| !found.iter().any(|found| found.kind == Some(**kind)))?;
    Some(format!("the test should leave {missing:?} behind, but there are none"))
}

async fn find_leftovers(bus: &Bus, db: Option<&PgPool>, running: &[&str]) -> anyhow::Result<Vec<Found>> {
    let mut found = Vec::new();
    for consumer in CONSUMERS {
        let (pending, unacknowledged) = count_waiting(bus, &consumer).await?;
        let Consumer { name, subject, service, .. } = consumer;
        if unacknowledged > 0 {
            let description = format!("consumer {name}: {unacknowledged} unacknowledged messages on {subject}");
            found.push(Found { kind: Some(Leftover::UnacknowledgedMessages), description });
        }
        if pending > 0 && running.contains(&service) {
            let description = format!("consumer {name}: {pending} messages on {subject} that {service} did not handle");
            found.push(Found { kind: None, description });
        }
    }
    for letter in dead_letters::list(bus).await? {
        let description =
            format!("dead letter {} of {} on {}: {}", letter.number, letter.consumer, letter.subject, letter.reason);
        found.push(Found { kind: Some(Leftover::DeadLetters), description });
    }
    if let Some(db) = db {
        let query = "SELECT source, id, subject FROM outbox.messages ORDER BY id";
        let rows: Vec<(String, i64, String)> =
            sqlx::query_as(query).fetch_all(db).await.context("cannot read the outbox")?;
        found.extend(rows.into_iter().map(|(source, id, subject)| Found {
            kind: Some(Leftover::OutboxRows),
            description: format!("outbox row {id} of {source} on {subject}"),
        }));
    }
    Ok(found)
}

/// The numbers of pending and of unacknowledged messages. A consumer that the test deleted has none.
async fn count_waiting(bus: &Bus, consumer: &Consumer) -> anyhow::Result<(u64, u64)> {
    match bus.backlog(consumer).await {
        Ok(backlog) => Ok((backlog.pending, backlog.unacknowledged)),
        Err(error) => match error.downcast_ref::<ConsumerInfoError>().map(ConsumerInfoError::kind) {
            Some(ConsumerInfoErrorKind::NotFound | ConsumerInfoErrorKind::StreamNotFound) => Ok((0, 0)),
            _ => Err(error),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::World;
    use async_nats::{HeaderMap, jetstream::consumer::PullConsumer};
    use futures::StreamExt;
    use off_events::{
        Order,
        headers::{DEAD_REASON, DEAD_SUBJECT},
        streams::{ORDERS, SUPPLIER},
    };

    /// The message with which a test that ends like this fails.
    async fn failure_of(end: impl Future<Output = ()> + Send + 'static) -> String {
        let panic = tokio::spawn(end).await.expect_err("the end fails").into_panic();
        let text = panic.downcast_ref::<&str>().map(ToString::to_string);
        text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default()
    }

    async fn leave_outbox_row(world: &World) {
        let row = "INSERT INTO outbox.messages VALUES ('users', DEFAULT, 'users.registered', '1', '{}', now())";
        sqlx::query(row).execute(&world.database.pool).await.expect("the row is inserted");
    }

    async fn leave_unacknowledged_message(world: &World) {
        world.nats.publish_bytes(Order::PAID, "{}").await;
        let supplier = world.nats.bus.jetstream.get_consumer_from_stream(SUPPLIER.name, ORDERS.name).await;
        let supplier: PullConsumer = supplier.expect("the consumer exists");
        let mut messages = supplier.fetch().max_messages(1).messages().await.expect("a pull request");
        messages.next().await.expect("a message").expect("no error");
    }

    async fn leave_dead_letter(world: &World) {
        let mut headers = HeaderMap::new();
        headers.insert(DEAD_SUBJECT, Order::PENDING);
        headers.insert(DEAD_REASON, "not readable");
        world.nats.publish_with_headers(SUPPLIER.dead_subject(), headers, "{").await;
    }

    #[tokio::test]
    async fn everything_that_is_left_is_listed() {
        let world = World::new().await;
        leave_outbox_row(&world).await;
        leave_unacknowledged_message(&world).await;
        leave_dead_letter(&world).await;
        let failure = failure_of(world.end()).await;
        for leftover in [
            "left behind by the test (3):\n",
            "  outbox row 1 of users on users.registered\n",
            "  consumer supplier: 1 unacknowledged messages on orders.paid\n",
            "  dead letter 1 of supplier on orders.pending: not readable\n",
        ] {
            assert!(failure.contains(leftover), "{failure}");
        }
    }

    #[tokio::test]
    async fn a_test_may_leave_exactly_what_it_says() {
        let world = World::new().await;
        leave_dead_letter(&world).await;
        world.end_leaving(&[Leftover::DeadLetters]).await;

        let world = World::new().await;
        leave_dead_letter(&world).await;
        let failure = failure_of(world.end_leaving(&[Leftover::OutboxRows])).await;
        assert!(failure.contains("dead letter 1 of supplier"), "{failure}");

        let failure = failure_of(World::new().await.end_leaving(&[Leftover::OutboxRows])).await;
        assert!(failure.contains("should leave OutboxRows behind"), "{failure}");
    }

    #[tokio::test]
    async fn messages_that_no_consumer_received_are_not_left_behind() {
        let world = World::new().await;
        world.nats.publish_bytes(Order::PAID, "{}").await;
        world.end().await;
    }

    #[tokio::test]
    async fn a_test_that_does_not_finish_its_world_fails() {
        let failure = failure_of(async { drop(World::new().await) }).await;
        assert!(failure.contains("finish it with `end`"), "{failure}");
        World::new().await.abandon();
    }

    #[tokio::test]
    async fn a_dead_broker_fails_the_end() {
        let mut world = World::new().await;
        world.nats.server.kill().await.expect("the server is killed");
        let failure = failure_of(world.end()).await;
        assert!(failure.contains("finish it with `abandon`"), "{failure}");
    }
}
