//! The publisher: publishes `orders.pending` and `orders.cancelled` from memory, as soon as orders are committed.
//!
//! These events need no outbox row, because the order's own row is enough to publish them again. The publisher records
//! the orders that the broker did not acknowledge as unpublished. At its start, a service also records the pending
//! orders of the minute before the newest order. Recovery publishes both. An order that both miss, when everything
//! crashes at once, is found by recovery after its deadline.

use crate::{OrdersService, store::late_orders};
use chrono::{DateTime, Utc};
use futures::{StreamExt, stream};
use metrics::histogram;
use off_events::{Order, OrderId};
use off_kit::{Bus, Clock, Kit, LogLimit, Service, Tasks, backoff::Backoff, bus::OutboundMessage, db, telemetry};
use sqlx::PgPool;
use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tokio::{sync::mpsc, time::Instant};
use tracing::warn;
use uuid::Uuid;

/// Maximum number of orders that wait to be published. While its batch does not fit, the intake waits. A busy service
/// places about this many orders before the publish to an unresponsive broker times out.
const QUEUE_CAPACITY: usize = 8192;

/// Maximum number of orders in a batch.
const MAX_BATCH_SIZE: usize = 1000;
/// Maximum number of batches that are published at the same time.
const MAX_BATCHES_IN_FLIGHT: usize = 4;

/// How long a batch may fill after its first order. The broker needs almost as much time for one message alone as for
/// three that arrive together.
const LINGER: Duration = Duration::from_millis(5);

/// For this long after a message that the broker did not acknowledge, orders are recorded as unpublished without an
/// attempt, which would most likely time out, too.
const SKIP_AFTER_FAILURE: Duration = Duration::from_secs(1);

/// An order that was just placed or cancelled, and the trace context of the request.
#[derive(Debug)]
pub(crate) struct Committed {
    pub(crate) order: Order,
    /// When it was placed or cancelled.
    pub(crate) at: DateTime<Utc>,
    pub(crate) traceparent: Option<String>,
}

#[derive(Debug)]
enum Queued {
    /// A committed order, to be published.
    Committed(Committed),
    /// An order whose commit is uncertain, to be recorded as unpublished if it is stored.
    MaybeStored(OrderId),
}

/// A handle to the publisher task. The task runs until all clones of the handle are dropped.
#[derive(Debug, Clone)]
pub(crate) struct Publisher(mpsc::Sender<Queued>);

impl Publisher {
    pub(crate) fn start(kit: &Kit, db: &PgPool, bus: &Bus) -> Self {
        let (queue, queued) = mpsc::channel(QUEUE_CAPACITY);
        // A crash of Postgres may undo the last writes of this pool. Recovery then finds the orders by their deadline.
        let db = db::background_pool(kit, db);
        let (bus, tasks) = (bus.clone(), kit.tasks.clone());
        let task =
            Task { db, bus, clock: kit.clock, tasks, failed_at: Mutex::default(), log_limit: LogLimit::default() };
        kit.tasks.spawn("order publisher", async move {
            task.run(queued).await;
            Ok(())
        });
        Self(queue)
    }

    /// Queues at most [`QUEUE_CAPACITY`] orders to be published. Waits until there is room for them.
    pub(crate) async fn enqueue(&self, orders: Vec<Committed>) {
        // This cannot fail: the task ends only after all handles are dropped.
        let Ok(permits) = self.0.reserve_many(orders.len()).await else { return };
        for (permit, order) in permits.zip(orders) {
            permit.send(Queued::Committed(order));
        }
    }

    /// Queues orders whose commit is uncertain: those that are stored are published later by recovery. Does nothing if
    /// there is no room for them; recovery then finds them after their deadline.
    pub(crate) fn enqueue_uncertain(&self, orders: impl ExactSizeIterator<Item = OrderId>) {
        let Ok(permits) = self.0.try_reserve_many(orders.len()) else { return };
        for (permit, order) in permits.zip(orders) {
            permit.send(Queued::MaybeStored(order));
        }
    }
}

struct Task {
    db: PgPool,
    bus: Bus,
    clock: Clock,
    tasks: Tasks,
    /// When the broker last failed to acknowledge a message.
    failed_at: Mutex<Option<Instant>>,
    log_limit: LogLimit,
}

impl Task {
    async fn run(&self, queued: mpsc::Receiver<Queued>) {
        let batches = stream::unfold(queued, async |mut queued| {
            let batch = next_batch(&mut queued).await;
            (!batch.is_empty()).then_some((batch, queued))
        });
        batches.for_each_concurrent(MAX_BATCHES_IN_FLIGHT, |batch| self.handle_batch(batch)).await;
    }

    /// Publishes a batch and records the orders that the broker did not acknowledge.
    async fn handle_batch(&self, batch: Vec<Queued>) {
        let started = Instant::now();
        histogram!("off_order_publish_batch_size").record(batch.len() as f64);
        let (mut committed, mut unpublished) = (Vec::with_capacity(batch.len()), Vec::new());
        for queued in batch {
            match queued {
                Queued::Committed(order) => committed.push(order),
                Queued::MaybeStored(id) => unpublished.push(id.0),
            }
        }
        let ids: Vec<Uuid> = committed.iter().map(|committed| committed.order.id.0).collect();
        unpublished.extend(if self.must_skip() { ids } else { self.publish(committed, ids).await });
        histogram!("off_order_publish_seconds").record(started.elapsed());
        if !unpublished.is_empty() {
            self.record_unpublished(&unpublished).await;
        }
    }

    /// Whether publishing would most likely time out.
    fn must_skip(&self) -> bool {
        let failed_at = *self.failed_at.lock().unwrap_or_else(PoisonError::into_inner);
        !self.bus.is_connected() || failed_at.is_some_and(|failed_at| failed_at.elapsed() < SKIP_AFTER_FAILURE)
    }

    /// Publishes orders; `ids` are their ids. Returns the ids of those that the broker did not acknowledge.
    async fn publish(&self, orders: Vec<Committed>, ids: Vec<Uuid>) -> Vec<Uuid> {
        let messages = orders.iter().map(|Committed { order, at, traceparent }| {
            let trace = telemetry::record_publish_span(order.status.subject(), *at, traceparent.as_deref());
            OutboundMessage::of(OrdersService::NAME, order, *at, trace.as_deref())
        });
        let results = match messages.collect() {
            Ok(messages) => self.bus.publish_all(messages).await,
            Err(error) => {
                warn!("{} orders cannot be published: {error}", orders.len());
                return ids;
            }
        };
        let (mut unacknowledged, mut failure) = (Vec::new(), None);
        for (id, result) in ids.into_iter().zip(results) {
            if let Err(error) = result {
                unacknowledged.push(id);
                failure = Some(error);
            }
        }
        if let Some(error) = failure {
            *self.failed_at.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
            if let Some(suppressed) = self.log_limit.admit() {
                warn!(suppressed, "{} orders were not published, recovery retries: {error}", unacknowledged.len());
            }
        }
        unacknowledged
    }

    /// Records orders as unpublished, for recovery. Retries until it succeeds or the service stops. In the latter case
    /// the next start records them, or recovery finds them after their deadline.
    async fn record_unpublished(&self, ids: &[Uuid]) {
        let mut backoff = Backoff::default();
        while let Err(error) = db::with_timeout(self.clock, late_orders::record_unpublished(&self.db, ids)).await {
            if let Some(suppressed) = self.log_limit.admit() {
                warn!(suppressed, "recording {} orders as unpublished failed, retrying: {error}", ids.len());
            }
            tokio::select! {
                () = self.tasks.stopping() => return,
                () = tokio::time::sleep(backoff.pause()) => {}
            }
        }
    }
}

/// Returns the orders that arrive within [`LINGER`] of the first, up to [`MAX_BATCH_SIZE`]. Empty if closed.
async fn next_batch(queued: &mut mpsc::Receiver<Queued>) -> Vec<Queued> {
    let mut batch = Vec::new();
    if queued.recv_many(&mut batch, MAX_BATCH_SIZE).await > 0 && batch.len() < MAX_BATCH_SIZE {
        tokio::time::sleep(LINGER).await;
        while batch.len() < MAX_BATCH_SIZE
            && let Ok(another) = queued.try_recv()
        {
            batch.push(another);
        }
    }
    batch
}
