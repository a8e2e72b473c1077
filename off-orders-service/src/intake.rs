//! The intake: commits orders that arrive at the same time in one transaction (group commit).
//!
//! Each commit costs a write to disk, however many orders it contains. While one batch is committed, the next one
//! fills: under load a hundred orders share one write, and a single order does not wait for others. Each caller gets
//! its answer after the commit of its own order.

use crate::{
    deadlines::TimeLimits,
    domain::{Draft, OrderRequest, is_same_request},
    publisher::{Committed, Publisher},
    store::{self, InsertConflict, Priced},
};
use metrics::{gauge, histogram};
use off_events::{Money, Order, OrderId};
use off_kit::{
    Clock, Kit, LogLimit,
    auth::RowAccess,
    db::{self, HeldConnection},
    fields::FieldError,
    http::IdempotencyKey,
    telemetry,
};
use sqlx::PgPool;
use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::sync::{mpsc, oneshot};
use tracing::{error, warn};

/// Maximum number of orders in one transaction.
const MAX_BATCH_SIZE: usize = 512;

/// Maximum number of orders in the queue. They all fit into the next transaction, so that an order waits for at most
/// two transactions.
const QUEUE_CAPACITY: usize = MAX_BATCH_SIZE;

/// Maximum time that an order waits in the queue.
const MAX_WAIT: Duration = Duration::from_secs(3);

/// Why an order was not placed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IntakeError {
    /// Also a device of another person.
    #[error("no such device or product")]
    UnknownReference(Vec<FieldError>),
    #[error("the Idempotency-Key was used for another order")]
    KeyReused,
    /// The client expected another price than this one.
    #[error("the order costs {0}")]
    PriceChanged(Money),
    #[error("the queue of the intake is full, or the order waited in it for too long")]
    Overloaded,
    #[error("the database does not answer")]
    Unavailable,
    /// The device or product was inserted while the order was placed.
    #[error("the device or product was just added")]
    Race,
    #[error("the clocks of this service and the database disagree")]
    ClocksDisagree,
    #[error("the order could not be stored")]
    Internal,
}

/// A request in the queue.
#[derive(Debug)]
struct Queued {
    request: OrderRequest,
    since: Instant,
    waiter: Waiter,
}

/// The HTTP request that waits for its order.
#[derive(Debug)]
struct Waiter {
    /// Its trace context, as a W3C `traceparent`.
    traceparent: Option<String>,
    result: oneshot::Sender<Result<Order, IntakeError>>,
}

impl Waiter {
    fn respond(self, result: Result<Order, IntakeError>) {
        // Fails only if the caller is gone.
        let _ = self.result.send(result);
    }
}

/// A handle to the writer task. Clones share the same writer.
#[derive(Debug, Clone)]
pub(crate) struct Intake {
    queue: mpsc::Sender<Queued>,
    busy: BusyCounter,
}

/// The total time that the writer was busy since it started, in microseconds, including waits for room at the
/// publisher. Clones share the value.
#[derive(Debug, Clone, Default)]
pub(crate) struct BusyCounter(Arc<AtomicU64>);

impl BusyCounter {
    pub(crate) fn get(&self) -> Duration {
        Duration::from_micros(self.0.load(Ordering::Relaxed))
    }

    fn add(&self, time: Duration) {
        self.0.fetch_add(u64::try_from(time.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

impl Intake {
    /// Starts the writer task. It runs until the last `Intake` is dropped, so that every queued request is answered.
    pub(crate) fn start(kit: &Kit, db: PgPool, publisher: Publisher, limits: TimeLimits) -> Self {
        let (queue, mut queued) = mpsc::channel(QUEUE_CAPACITY);
        let busy = BusyCounter::default();
        let busy_time = busy.clone();
        let mut writer = Writer {
            db: HeldConnection::new(kit, db),
            clock: kit.clock,
            publisher,
            limits,
            log_limit: LogLimit::default(),
        };
        kit.tasks.spawn("order intake", async move {
            let mut batch = Vec::with_capacity(MAX_BATCH_SIZE);
            while queued.recv_many(&mut batch, MAX_BATCH_SIZE).await > 0 {
                gauge!("off_orders_waiting").set(queued.len() as f64);
                let longest_wait = batch.iter().map(|queued: &Queued| queued.since.elapsed()).max();
                histogram!("off_order_wait_seconds").record(longest_wait.unwrap_or_default());
                let (requests, waiters) = batch.drain(..).filter_map(reject_expired).unzip();
                let started = Instant::now();
                writer.write(requests, waiters).await;
                busy_time.add(started.elapsed());
            }
            Ok(())
        });
        Self { queue, busy }
    }

    /// How long the writer was busy. Recovery slows down by it, because it shares processors and disk with the intake.
    pub(crate) fn busy_time(&self) -> BusyCounter {
        self.busy.clone()
    }

    /// Places an order, or returns the order that was placed earlier with the same key. Returns after the commit.
    pub(crate) async fn place(
        &self,
        draft: Draft,
        key: Option<IdempotencyKey>,
        access: RowAccess,
    ) -> Result<Order, IntakeError> {
        let (result, stored) = oneshot::channel();
        let waiter = Waiter { traceparent: telemetry::current_traceparent(), result };
        let queued = Queued { request: OrderRequest { draft, key, access }, since: Instant::now(), waiter };
        self.queue.try_send(queued).map_err(|_| IntakeError::Overloaded)?;
        stored.await.unwrap_or(Err(IntakeError::Unavailable))
    }
}

/// Rejects a request that waited in the queue for too long: its timestamp would be too far from the database's time.
fn reject_expired(Queued { request, since, waiter }: Queued) -> Option<(OrderRequest, Waiter)> {
    if since.elapsed() < MAX_WAIT {
        return Some((request, waiter));
    }
    waiter.respond(Err(IntakeError::Overloaded));
    None
}

/// The result of storing a batch: each order is in one of the two.
struct Stored {
    placed: HashMap<OrderId, Priced>,
    conflicts: HashMap<OrderId, InsertConflict>,
}

struct Writer {
    db: HeldConnection,
    clock: Clock,
    publisher: Publisher,
    limits: TimeLimits,
    log_limit: LogLimit,
}

impl Writer {
    /// Stores a batch, responds to its callers and hands the placed orders to the publisher.
    async fn write(&mut self, requests: Vec<OrderRequest>, waiters: Vec<Waiter>) {
        let started = Instant::now();
        let outcome = db::with_timeout(self.clock, self.store(&requests)).await;
        histogram!("off_order_commit_seconds").record(started.elapsed());
        histogram!("off_order_batch_size").record(requests.len() as f64);
        let Stored { mut placed, mut conflicts } = match outcome {
            Ok(stored) => stored,
            Err(failure) => {
                self.db.discard();
                let is_transient = db::is_transient(&failure);
                if let Some(suppressed) = self.log_limit.admit() {
                    let count = requests.len();
                    if is_transient {
                        warn!(suppressed, "whether {count} orders were stored is unknown, recovery checks: {failure}");
                    } else {
                        error!(suppressed, "{count} orders were not stored: {failure}");
                    }
                }
                for waiter in waiters {
                    waiter.respond(Err(if is_transient { IntakeError::Unavailable } else { IntakeError::Internal }));
                }
                // If the connection is lost, the transaction may have been committed.
                self.publisher.enqueue_uncertain(requests.into_iter().map(|request| request.draft.id));
                return;
            }
        };
        let mut committed = Vec::with_capacity(requests.len());
        for (request, mut waiter) in requests.into_iter().zip(waiters) {
            let id = request.draft.id;
            let result = match (placed.remove(&id), conflicts.remove(&id)) {
                (Some(Priced { user_id, unit_price }), _) => {
                    // The table limits prices and quantities, so that their product is small enough.
                    request.draft.priced(user_id, unit_price).ok_or(IntakeError::Internal)
                }
                (None, Some(conflict)) => self.resolve(&request, conflict),
                (None, None) => Err(IntakeError::Race),
            };
            if let Ok(order) = &result
                && order.id == id
            {
                let traceparent = waiter.traceparent.take();
                committed.push(Committed { order: order.clone(), at: order.timestamp, traceparent });
            }
            waiter.respond(result);
        }
        self.publisher.enqueue(committed).await;
    }

    /// Stores the requests that can be stored. Returns their prices, and the conflicts of the others.
    async fn store(&mut self, requests: &[OrderRequest]) -> sqlx::Result<Stored> {
        let conn = self.db.get().await?;
        let placed = store::insert_orders(conn, requests, self.limits).await?;
        let not_inserted: Vec<&OrderRequest> =
            requests.iter().filter(|request| !placed.contains_key(&request.draft.id)).collect();
        if not_inserted.is_empty() {
            return Ok(Stored { placed, conflicts: HashMap::new() });
        }
        let conflicts = store::list_conflicts(conn, &not_inserted).await?;
        let conflicts = conflicts.into_iter().map(|conflict| (conflict.id, conflict)).collect();
        Ok(Stored { placed, conflicts })
    }

    /// Returns the earlier order if `request` repeats it; otherwise the reason why `request` was not inserted.
    fn resolve(&self, request: &OrderRequest, conflict: InsertConflict) -> Result<Order, IntakeError> {
        // The device belongs to another person, so its orders do not exist for this caller.
        if let Some(earlier) = conflict.earlier_order.filter(|_| conflict.ssd_exists) {
            return if is_same_request(&earlier, &request.draft) { Ok(earlier) } else { Err(IntakeError::KeyReused) };
        }
        let mut errors = Vec::new();
        if !conflict.ssd_exists {
            errors.push(FieldError::new("ssd_id", &format!("there is no device {}", request.draft.ssd_id)));
        }
        if !conflict.product_exists {
            errors.push(FieldError::new("barcode", &format!("the catalog has no product {}", request.draft.barcode)));
        }
        if let (true, Some(total)) = (errors.is_empty(), conflict.differing_total) {
            return Err(IntakeError::PriceChanged(total));
        }
        if errors.is_empty() && !conflict.is_timely {
            if let Some(suppressed) = self.log_limit.admit() {
                let id = request.draft.id;
                error!(suppressed, "order {id} was not placed: the clocks of this service and the database disagree");
            }
            return Err(IntakeError::ClocksDisagree);
        }
        if errors.is_empty() {
            // The device or product was inserted between the two statements.
            return Err(IntakeError::Race);
        }
        Err(IntakeError::UnknownReference(errors))
    }
}
