//! The transactional outbox: events are committed together with their fact, and relayed to the broker afterwards.
//!
//! A crash cannot lose an event: a row is deleted only after the broker has acknowledged its message. If that publishes
//! a message twice, the broker deduplicates it by its id.

use crate::{Bus, Clock, Kit, Tasks, backoff::Backoff, bus::OutboundMessage, db, telemetry, telemetry::Metric};
use chrono::{DateTime, Utc};
use metrics::{counter, gauge, histogram};
use off_events::Event;
use sqlx::{PgConnection, PgPool};
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{sync::Notify, time::Instant};
use tracing::warn;

/// The metrics of this module.
pub(crate) const METRICS: [Metric; 5] = [
    Metric::histogram("off_outbox_batch_size", "Messages per batch of the outbox relay"),
    Metric::histogram("off_outbox_publish_seconds", "Time until the broker acknowledged all messages of a batch"),
    Metric::gauge("off_outbox_in_flight", "Messages published by the relay and not acknowledged yet"),
    Metric::counter("off_outbox_published_total", "Messages relayed from the outbox and acknowledged"),
    Metric::gauge("off_outbox_lag_seconds", "Age of the oldest message in the outbox"),
];

/// Maximum number of messages per batch; all of them are in flight at once.
const BATCH: u16 = 1000;

/// How often the relay polls all rows, for those whose writer died before it called [`Outbox::wake`].
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// A poll starts this many ids before the last relayed row. Transactions that commit late seldom have smaller ids, and
/// the next full poll finds those that do. Without a start id, each poll would scan all rows that were deleted since
/// the table was last vacuumed.
const OVERLAP: i64 = 2 * BATCH as i64;

/// How long a batch may fill after the relay was woken. A batch costs the same for one message as for fifty, and the
/// writer of the first message is already writing the next.
const LINGER: Duration = Duration::from_millis(5);

/// A message that waits longer than this for its acknowledgement causes a readiness warning.
const WARN_AFTER: Duration = Duration::from_secs(15);

/// Timeout for relaying the remaining rows at shutdown; the rest is relayed at the next start.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);

/// The outbox of one service. Clones share its relay.
#[derive(Debug, Clone)]
pub struct Outbox {
    relay: Relay,
    wake: Arc<Notify>,
}

/// An event to publish, with the time at which it occurred and the trace to which it belongs.
#[derive(Debug)]
pub struct Entry<'a, E> {
    /// The event.
    pub event: &'a E,
    /// When it occurred.
    pub occurred_at: DateTime<Utc>,
    /// The trace to which it belongs, as a W3C `traceparent`.
    pub traceparent: Option<String>,
}

/// Events as columns of `outbox.messages`, for `unnest`.
#[derive(Debug, Default)]
struct Columns {
    subjects: Vec<String>,
    event_ids: Vec<String>,
    bodies: Vec<String>,
    traceparents: Vec<Option<String>>,
    times: Vec<DateTime<Utc>>,
}

impl Columns {
    /// Serializes `entries`.
    fn of<E: Event>(entries: &[Entry<'_, E>]) -> sqlx::Result<Self> {
        let mut columns = Self::default();
        for entry in entries {
            columns.subjects.push(entry.event.subject().to_owned());
            columns.event_ids.push(entry.event.event_id());
            columns.bodies.push(serde_json::to_string(entry.event).map_err(|error| sqlx::Error::Encode(error.into()))?);
            columns.traceparents.push(entry.traceparent.clone());
            columns.times.push(entry.occurred_at);
        }
        Ok(columns)
    }
}

impl Outbox {
    /// The outbox of a service. Spawns its relay on `kit`.
    pub fn start(kit: &Kit, db: &PgPool, bus: &Bus) -> Self {
        // A crash of Postgres may undo deletes; then messages are published again, which is harmless.
        let pool = db::background_pool(kit, db);
        let relay = Relay { source: kit.name, db: pool, bus: bus.clone(), clock: kit.clock, oldest: Arc::default() };
        let (oldest, clock) = (relay.oldest.clone(), kit.clock);
        kit.readiness_checks.add_warning("outbox", move || {
            let since = (*oldest.lock().unwrap_or_else(PoisonError::into_inner))?;
            let lag = (clock.now() - since).to_std().ok().filter(|lag| *lag > WARN_AFTER)?;
            let seconds = lag.as_secs();
            Some(format!(
                "messages wait for the broker's acknowledgement, the oldest for {seconds} s: is NATS up, and has its \
                 disk free space? A nats-server whose disk was full may need a restart"
            ))
        });
        let outbox = Self { relay, wake: Arc::new(Notify::new()) };
        let (running, tasks) = (outbox.clone(), kit.tasks.clone());
        kit.tasks.spawn("outbox relay", async move {
            running.run(&tasks).await;
            Ok(())
        });
        outbox
    }

    /// Stores events in the transaction of their facts. Call [`Outbox::wake`] after the commit.
    pub async fn put<E: Event>(&self, conn: &mut PgConnection, entries: &[Entry<'_, E>]) -> sqlx::Result<()> {
        put_for(self.relay.source, conn, entries).await
    }

    /// Wakes the relay after a commit.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    async fn run(&self, tasks: &Tasks) {
        let mut backoff = Backoff::default();
        // The id at which the next poll starts, and when the last full poll (from id 0) was due.
        let (mut from, mut last_full_poll) = (0, Instant::now());
        while !tasks.is_stopping() {
            if last_full_poll.elapsed() >= POLL_INTERVAL {
                (from, last_full_poll) = (0, Instant::now());
            }
            let relayed = tokio::select! {
                relayed = db::with_timeout(self.relay.clock, self.relay.relay_batch(from)) => relayed,
                () = tasks.grace_period_elapsed() => return,
            };
            match relayed {
                Ok(relayed) => {
                    backoff = Backoff::default();
                    from = relayed.next_from;
                    if relayed.count < usize::from(BATCH) {
                        tokio::select! {
                            () = tasks.stopping() => {}
                            () = self.wake.notified() => tokio::time::sleep(LINGER).await,
                            () = tokio::time::sleep(POLL_INTERVAL) => {}
                        }
                    }
                }
                Err(error) => {
                    warn!("the outbox relay failed, retrying: {error:#}");
                    // A commit does not wake the relay here: new messages do not make the dependency available.
                    tokio::select! {
                        () = tasks.stopping() => {}
                        () = tokio::time::sleep(backoff.pause()) => {}
                    }
                }
            }
        }
    }

    /// Relays the remaining rows at shutdown, after the last write. Gives up after 5 s, or when the database or the
    /// broker is unavailable.
    pub async fn flush(&self) {
        let flushing = async { while self.relay.relay_batch(0).await.is_ok_and(|relayed| relayed.count > 0) {} };
        if tokio::time::timeout(FLUSH_TIMEOUT, flushing).await.is_err() {
            warn!("the outbox is not empty; the rest is relayed at the next start");
        }
    }
}

/// Stores events in the transaction of their facts, for the service `source`, whose relay publishes them within a second.
pub async fn put_for<E: Event>(source: &str, conn: &mut PgConnection, entries: &[Entry<'_, E>]) -> sqlx::Result<()> {
    if entries.is_empty() {
        return Ok(());
    }
    let columns = Columns::of(entries)?;
    sqlx::query!(
        "INSERT INTO outbox.messages (source, subject, event_id, body, traceparent, occurred_at)
         SELECT $1, message.*
         FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::timestamptz[]) AS message",
        source,
        &columns.subjects,
        &columns.event_ids,
        &columns.bodies,
        &columns.traceparents as &[Option<String>],
        &columns.times,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// The result of relaying a batch.
#[derive(Debug, Clone, Copy)]
struct RelayedBatch {
    count: usize,
    /// The id at which the next poll starts.
    next_from: i64,
}

/// Relays the rows of one service to the broker. The relays of several replicas share the work: each skips the rows
/// that another has locked.
#[derive(Debug, Clone)]
struct Relay {
    /// The name of the service, the `source` of its rows.
    source: &'static str,
    db: PgPool,
    bus: Bus,
    clock: Clock,
    /// When the oldest message of the last poll occurred; `None` if there was none.
    oldest: Arc<Mutex<Option<DateTime<Utc>>>>,
}

impl Relay {
    /// When the oldest message occurred.
    async fn find_oldest(&self) -> sqlx::Result<Option<DateTime<Utc>>> {
        let oldest = sqlx::query_scalar!(
            "SELECT occurred_at FROM outbox.messages WHERE source = $1 ORDER BY id LIMIT 1",
            self.source
        );
        oldest.fetch_optional(&self.db).await
    }

    fn record_oldest(&self, since: Option<DateTime<Utc>>) {
        let lag = since.and_then(|since| (self.clock.now() - since).to_std().ok()).unwrap_or_default();
        gauge!("off_outbox_lag_seconds", "service" => self.source).set(lag.as_secs_f64());
        *self.oldest.lock().unwrap_or_else(PoisonError::into_inner) = since;
    }

    /// Publishes the oldest rows with ids from `from` on, and deletes those that the broker acknowledged. The
    /// transaction that deletes them commits only after the acknowledgements, so that other replicas skip these rows
    /// meanwhile.
    async fn relay_batch(&self, from: i64) -> anyhow::Result<RelayedBatch> {
        if !self.bus.is_connected() {
            self.record_oldest(self.find_oldest().await?);
            anyhow::bail!("NATS is not connected");
        }
        let mut tx = self.db.begin().await?;
        let mut rows = sqlx::query!(
            "DELETE FROM outbox.messages WHERE ctid = ANY (ARRAY(
                 SELECT ctid FROM outbox.messages WHERE source = $1 AND id >= $2 ORDER BY id LIMIT $3
                 FOR UPDATE SKIP LOCKED))
             RETURNING id, subject, event_id, body, traceparent, occurred_at",
            self.source,
            from,
            i64::from(BATCH),
        )
        .fetch_all(&mut *tx)
        .await?;
        rows.sort_unstable_by_key(|row| row.id);
        self.record_oldest(rows.first().map(|row| row.occurred_at));
        if rows.is_empty() {
            return Ok(RelayedBatch { count: 0, next_from: from });
        }
        let (ids, messages): (Vec<i64>, Vec<OutboundMessage>) = rows
            .into_iter()
            .map(|row| {
                let body = row.body.into_bytes().into();
                let trace = telemetry::record_publish_span(&row.subject, row.occurred_at, row.traceparent.as_deref());
                let trace = trace.as_deref();
                (row.id, OutboundMessage::new(&row.subject, self.source, &row.event_id, body, row.occurred_at, trace))
            })
            .unzip();
        let (in_flight, started) = (gauge!("off_outbox_in_flight", "service" => self.source), Instant::now());
        in_flight.set(ids.len() as f64);
        let results = self.bus.publish_all(messages).await;
        in_flight.set(0.0);
        histogram!("off_outbox_publish_seconds", "service" => self.source).record(started.elapsed());
        let next_from = ids.last().map_or(from, |last| last - OVERLAP);
        let relayed = RelayedBatch { count: ids.len(), next_from };
        let (mut acknowledged, mut failure) = (Vec::with_capacity(ids.len()), None);
        for (id, result) in ids.into_iter().zip(results) {
            match result {
                Ok(()) => acknowledged.push(id),
                Err(error) => failure = Some(error),
            }
        }
        if failure.is_none() {
            tx.commit().await?;
        } else {
            // Keeps the rows that were not acknowledged.
            tx.rollback().await?;
            sqlx::query!("DELETE FROM outbox.messages WHERE source = $1 AND id = ANY($2)", self.source, &acknowledged)
                .execute(&self.db)
                .await?;
        }
        counter!("off_outbox_published_total", "service" => self.source).increment(acknowledged.len() as u64);
        histogram!("off_outbox_batch_size", "service" => self.source).record(relayed.count as f64);
        match failure {
            Some(error) => Err(error.into()),
            None => Ok(relayed),
        }
    }
}
