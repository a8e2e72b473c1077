//! The outbox: events are committed with the fact they speak of, and carried to the bus afterwards.
//!
//! There is no moment at which a crash loses one: a row is deleted only after the broker acknowledged its message, and
//! a message that is published twice because of that is the same message by its id.

use crate::{Bus, Clock, Kit, Tasks, backoff::Backoff, bus::Outgoing, db, telemetry};
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

/// The most messages published in one go, all in flight at once.
const BATCH: u16 = 1000;

/// How often the relay looks by itself, for rows whose writer died before it could say so. Between looks it is woken.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Rows are looked for from this many before the last one carried: who was slow to commit is seldom further behind, and
/// is found by the next full look. Without that, each look would pass over all rows that were deleted since the table
/// was last vacuumed.
const SLACK: i64 = 2 * BATCH as i64;

/// How long a relay that was woken lets more gather. A round costs the same for one message as for fifty, and whoever
/// wrote the first is already at the next.
const GATHER_FOR: Duration = Duration::from_millis(5);

/// A message that waits longer than this for the broker's acknowledgement is a warning.
const WARN_AFTER: Duration = Duration::from_secs(15);

/// How long the last rows may take when the service stops; what is left goes out at its next start.
const FLUSH_WITHIN: Duration = Duration::from_secs(5);

/// The outbox of one service. Clones share its relay.
#[derive(Debug, Clone)]
pub struct Outbox {
    relay: Relay,
    wake: Arc<Notify>,
}

/// An event to be sent, with the time it happened and the trace it belongs to.
#[derive(Debug)]
pub struct Entry<'a, E> {
    pub event: &'a E,
    pub occurred_at: DateTime<Utc>,
    pub traceparent: Option<String>,
}

/// Events as columns of `outbox.messages`, for a statement that stores the fact and its event at once.
#[derive(Debug, Default)]
pub struct Rows {
    pub subjects: Vec<String>,
    pub message_ids: Vec<String>,
    pub bodies: Vec<String>,
    pub traceparents: Vec<Option<String>>,
    pub times: Vec<DateTime<Utc>>,
}

impl Rows {
    pub fn of<'a, E: Event>(entries: impl IntoIterator<Item = &'a Entry<'a, E>>) -> sqlx::Result<Self> {
        let mut rows = Self::default();
        for entry in entries {
            rows.subjects.push(entry.event.subject().to_owned());
            rows.message_ids.push(entry.event.message_id());
            rows.bodies.push(serde_json::to_string(entry.event).map_err(|error| sqlx::Error::Encode(error.into()))?);
            rows.traceparents.push(entry.traceparent.clone());
            rows.times.push(entry.occurred_at);
        }
        Ok(rows)
    }
}

impl Outbox {
    /// The outbox of the service `kit` is for, with its relay running.
    pub fn start(kit: &Kit, db: &PgPool, bus: &Bus) -> Self {
        // What is deleted and comes back after a crash is published once more, which is harmless.
        let own = db::background_pool(db);
        let waiting = Arc::default();
        let relay = Relay { source: kit.name, db: own, bus: bus.clone(), clock: kit.clock, waiting };
        let (waiting, clock) = (relay.waiting.clone(), kit.clock);
        kit.needs.add_warning("outbox", move || {
            let since = (*waiting.lock().unwrap_or_else(PoisonError::into_inner))?;
            let lag = (clock.now() - since).to_std().ok().filter(|lag| *lag > WARN_AFTER)?;
            let seconds = lag.as_secs();
            Some(format!(
                "messages wait for the broker's acknowledgement, the oldest for {seconds} s: is NATS up, and has its disk \
                 room? A nats-server whose disk was full may need a restart"
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

    /// Writes events into the transaction of the fact they speak of. Call [`Outbox::wake`] after the commit.
    pub async fn put<E: Event>(&self, conn: &mut PgConnection, entries: &[Entry<'_, E>]) -> sqlx::Result<()> {
        let rows = Rows::of(entries)?;
        sqlx::query!(
            "INSERT INTO outbox.messages (source, subject, message_id, body, traceparent, occurred_at)
             SELECT $1, message.*
             FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::timestamptz[]) AS message",
            self.relay.source,
            &rows.subjects,
            &rows.message_ids,
            &rows.bodies,
            &rows.traceparents as &[Option<String>],
            &rows.times,
        )
        .execute(conn)
        .await?;
        Ok(())
    }

    /// Tells the relay that something was committed.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    async fn run(&self, tasks: &Tasks) {
        let mut backoff = Backoff::default();
        // Where to look from, and since when that was not from the very beginning.
        let (mut from, mut looked_fully) = (0, Instant::now());
        while !tasks.is_stopping() {
            if looked_fully.elapsed() >= LOOK_EVERY {
                (from, looked_fully) = (0, Instant::now());
            }
            let carried = tokio::select! {
                carried = db::with_timeout(self.relay.carry(from)) => carried,
                () = tasks.out_of_time() => return,
            };
            match carried {
                Ok(carried) => {
                    backoff = Backoff::default();
                    from = carried.through - SLACK;
                    if carried.count < usize::from(BATCH) {
                        tokio::select! {
                            () = tasks.stopping() => {}
                            () = self.wake.notified() => tokio::time::sleep(GATHER_FOR).await,
                            () = tokio::time::sleep(LOOK_EVERY) => {}
                        }
                    }
                }
                Err(error) => {
                    warn!("the outbox waits: {error:#}");
                    // A commit does not wake it here: what is away is not back because there is more to send.
                    tokio::select! {
                        () = tasks.stopping() => {}
                        () = tokio::time::sleep(backoff.pause()) => {}
                    }
                }
            }
        }
    }

    /// Carries what is left, when nothing more is written; gives up where the database or the broker is away.
    pub async fn flush(&self) {
        let flushing = async { while self.relay.carry(0).await.is_ok_and(|carried| carried.count > 0) {} };
        if tokio::time::timeout(FLUSH_WITHIN, flushing).await.is_err() {
            warn!("the outbox is not empty; the rest goes out at the next start");
        }
    }
}

/// What a look into the outbox brought.
#[derive(Debug, Clone, Copy)]
struct Carried {
    count: usize,
    /// The last row that was taken.
    through: i64,
}

/// Carries the rows of one service to the bus. Several replicas share the work: each takes rows the others have not.
#[derive(Debug, Clone)]
struct Relay {
    /// The service, as its rows name it.
    source: &'static str,
    db: PgPool,
    bus: Bus,
    clock: Clock,
    /// When the oldest message was written that was found waiting at the last look.
    waiting: Arc<Mutex<Option<DateTime<Utc>>>>,
}

impl Relay {
    /// When the oldest message was written.
    async fn find_oldest(&self) -> sqlx::Result<Option<DateTime<Utc>>> {
        let oldest = sqlx::query_scalar!(
            "SELECT occurred_at FROM outbox.messages WHERE source = $1 ORDER BY id LIMIT 1",
            self.source
        );
        oldest.fetch_optional(&self.db).await
    }

    fn note_waiting(&self, since: Option<DateTime<Utc>>) {
        let lag = since.and_then(|since| (self.clock.now() - since).to_std().ok()).unwrap_or_default();
        gauge!("off_outbox_lag_seconds", "service" => self.source).set(lag.as_secs_f64());
        *self.waiting.lock().unwrap_or_else(PoisonError::into_inner) = since;
    }

    /// Publishes the oldest rows from the id `from` on and deletes those the broker acknowledged; says how many it took.
    /// They are deleted in a transaction that ends after the broker's word, so that another replica passes over them
    /// meanwhile.
    async fn carry(&self, from: i64) -> anyhow::Result<Carried> {
        if !self.bus.is_connected() {
            self.note_waiting(self.find_oldest().await?);
            anyhow::bail!("NATS is not connected");
        }
        let mut tx = self.db.begin().await?;
        let mut rows = sqlx::query!(
            "DELETE FROM outbox.messages WHERE ctid = ANY (ARRAY(
                 SELECT ctid FROM outbox.messages WHERE source = $1 AND id >= $2 ORDER BY id LIMIT $3
                 FOR UPDATE SKIP LOCKED))
             RETURNING id, subject, message_id, body, traceparent, occurred_at",
            self.source,
            from,
            i64::from(BATCH),
        )
        .fetch_all(&mut *tx)
        .await?;
        rows.sort_unstable_by_key(|row| row.id);
        self.note_waiting(rows.first().map(|row| row.occurred_at));
        if rows.is_empty() {
            return Ok(Carried { count: 0, through: from + SLACK });
        }
        let (ids, messages): (Vec<i64>, Vec<Outgoing>) = rows
            .into_iter()
            .map(|row| {
                let body = row.body.into_bytes().into();
                let trace = telemetry::published(&row.subject, row.occurred_at, row.traceparent.as_deref());
                let trace = trace.as_deref();
                (row.id, Outgoing::new(&row.subject, self.source, &row.message_id, body, row.occurred_at, trace))
            })
            .unzip();
        let (in_flight, started) = (gauge!("off_outbox_in_flight", "service" => self.source), Instant::now());
        in_flight.set(ids.len() as f64);
        let answers = self.bus.publish_all(messages).await;
        in_flight.set(0.0);
        histogram!("off_outbox_publish_seconds", "service" => self.source).record(started.elapsed());
        let carried = Carried { count: ids.len(), through: ids.last().copied().unwrap_or_default() };
        let mut refusal = None;
        let acknowledged: Vec<i64> = ids
            .into_iter()
            .zip(answers)
            .filter_map(|(id, answer)| answer.map(|()| id).map_err(|error| refusal = Some(error)).ok())
            .collect();
        if refusal.is_none() {
            tx.commit().await?;
        } else {
            // What was not acknowledged has to stay.
            tx.rollback().await?;
            sqlx::query!("DELETE FROM outbox.messages WHERE source = $1 AND id = ANY($2)", self.source, &acknowledged)
                .execute(&self.db)
                .await?;
        }
        counter!("off_outbox_published_total", "service" => self.source).increment(acknowledged.len() as u64);
        histogram!("off_outbox_batch_size", "service" => self.source).record(carried.count as f64);
        match refusal {
            Some(error) => Err(error.into()),
            None => Ok(carried),
        }
    }
}
