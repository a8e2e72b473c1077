//! The intake: orders that arrive at the same time share one transaction.
//!
//! A commit costs a write to disk, whoever waits for it. While one batch is being committed the next one gathers, so
//! under load a hundred orders pay for one write, and a lone order never waits for company. Each caller is answered
//! after the commit of its own order.

use crate::{
    deadlines::TimeLimits,
    domain::{IdempotencyKey, Wish, same_wish},
    publisher::{Placed, Publisher},
    store::{self, Obstacle},
};
use metrics::{gauge, histogram};
use off_events::{Order, OrderId};
use off_kit::{
    Kit, LogLimit,
    db::{self, HeldConnection},
    fields::FieldError,
    http::Problem,
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

/// The most orders in one transaction.
const BATCH: usize = 512;

/// The most orders that wait: as many as the next transaction takes, so that nobody waits longer than two.
const QUEUE: usize = BATCH;

/// The longest that an order waits for the transactions before its own.
const LONGEST_WAIT: Duration = Duration::from_secs(3);

/// Why an order was not placed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("no such device or product")]
    Unknown(Vec<FieldError>),
    #[error("the Idempotency-Key was used for another order")]
    KeyReused,
    #[error("too many orders wait already")]
    Full,
    #[error("the database does not answer")]
    Unavailable,
    #[error("the clocks of this service and the database disagree")]
    ClocksDisagree,
    #[error("the order could not be stored")]
    Internal,
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        use axum::http::StatusCode;
        match refusal {
            Refusal::Unknown(errors) => Self::invalid(errors),
            Refusal::KeyReused => {
                let detail = "this Idempotency-Key was used for another order; a new order takes a new key";
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "idempotency_key_reused", detail)
            }
            Refusal::Full => Self::unavailable("more orders arrive than can be stored; try again"),
            Refusal::Unavailable => Self::unavailable("the database does not answer; try again"),
            Refusal::ClocksDisagree => Self::unavailable("no order can be placed now; try again later"),
            Refusal::Internal => Self::internal(),
        }
    }
}

type Answer = oneshot::Sender<Result<Order, Refusal>>;

/// A wish, since when it waits, and who waits for it.
type Waiting = (Wish, Instant, Answer);

/// Where orders are handed in. Clones lead to the same writer.
#[derive(Debug, Clone)]
pub(crate) struct Intake {
    queue: mpsc::Sender<Waiting>,
    busy: BusyTime,
}

/// For how long the writer was busy since it started. Clones show the same time.
#[derive(Debug, Clone, Default)]
pub(crate) struct BusyTime(Arc<AtomicU64>);

impl BusyTime {
    pub(crate) fn get(&self) -> Duration {
        Duration::from_micros(self.0.load(Ordering::Relaxed))
    }

    fn add(&self, time: Duration) {
        self.0.fetch_add(u64::try_from(time.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

impl Intake {
    /// Starts the writer. It goes on until the last `Intake` is gone, so that every request it has is answered.
    pub(crate) fn start(kit: &Kit, db: PgPool, publisher: Publisher, limits: TimeLimits) -> Self {
        let (queue, mut waiting) = mpsc::channel(QUEUE);
        let busy = BusyTime::default();
        let time = busy.clone();
        let mut writer = Writer { db: HeldConnection::of(db), publisher, limits, log_limit: LogLimit::default() };
        kit.tasks.spawn("order intake", async move {
            let mut batch = Vec::with_capacity(BATCH);
            while waiting.recv_many(&mut batch, BATCH).await > 0 {
                gauge!("off_orders_waiting").set(waiting.len() as f64);
                let longest = batch.iter().map(|(_, since, _): &Waiting| since.elapsed()).max();
                histogram!("off_order_wait_seconds").record(longest.unwrap_or_default());
                let (wishes, answers) = batch.drain(..).filter_map(still_wanted).unzip();
                let started = Instant::now();
                writer.write(wishes, answers).await;
                time.add(started.elapsed());
            }
            Ok(())
        });
        Self { queue, busy }
    }

    /// For how long it was busy: background work that shares its processors and its disk gives way to it.
    pub(crate) fn busy_time(&self) -> BusyTime {
        self.busy.clone()
    }

    /// Places `order`, or finds the one that was placed before with the same key; returns after the commit.
    pub(crate) async fn place(&self, order: Order, key: Option<IdempotencyKey>) -> Result<Order, Refusal> {
        let wish = Wish { order, key, traceparent: telemetry::current_traceparent() };
        let (answer, answered) = oneshot::channel();
        self.queue.try_send((wish, Instant::now(), answer)).map_err(|_| Refusal::Full)?;
        answered.await.unwrap_or(Err(Refusal::Unavailable))
    }
}

/// What is to be stored, unless it has waited for too long: its time would be too far from the database's.
fn still_wanted((wish, since, answer): Waiting) -> Option<(Wish, Answer)> {
    if since.elapsed() < LONGEST_WAIT {
        return Some((wish, answer));
    }
    let _ = answer.send(Err(Refusal::Full));
    None
}

struct Writer {
    db: HeldConnection,
    publisher: Publisher,
    limits: TimeLimits,
    log_limit: LogLimit,
}

impl Writer {
    /// Stores a batch and answers everyone in it.
    async fn write(&mut self, wishes: Vec<Wish>, answers: Vec<Answer>) {
        let started = Instant::now();
        let outcome = db::with_timeout(self.store(&wishes)).await;
        histogram!("off_order_commit_seconds").record(started.elapsed());
        histogram!("off_order_batch_size").record(wishes.len() as f64);
        let mut obstacles = match outcome {
            Ok(obstacles) => obstacles,
            Err(failure) => {
                self.db.give_up();
                let passing = db::is_passing(&failure);
                if let Some(suppressed) = self.log_limit.admit() {
                    let count = wishes.len();
                    if passing {
                        warn!(suppressed, "{count} orders were not stored, the database does not answer: {failure}");
                    } else {
                        error!(suppressed, "{count} orders were not stored: {failure}");
                    }
                }
                for answer in answers {
                    // A caller that has gone away needs no answer, here and below.
                    let _ = answer.send(Err(if passing { Refusal::Unavailable } else { Refusal::Internal }));
                }
                // A connection that is lost does not say whether it was committed.
                self.publisher.check(wishes.into_iter().map(|wish| wish.order.id));
                return;
            }
        };
        let mut placed = Vec::with_capacity(wishes.len());
        for (wish, answer) in wishes.into_iter().zip(answers) {
            let answered = match obstacles.remove(&wish.order.id) {
                None => {
                    placed.push(Placed { order: wish.order.clone(), traceparent: wish.traceparent });
                    Ok(wish.order)
                }
                Some(obstacle) => self.judge(&wish, obstacle),
            };
            let _ = answer.send(answered);
        }
        self.publisher.publish(placed).await;
    }

    /// Stores what can be stored; says what stood in the way of the rest.
    async fn store(&mut self, wishes: &[Wish]) -> sqlx::Result<HashMap<OrderId, Obstacle>> {
        let conn = self.db.get().await?;
        let placed = store::insert_orders(conn, wishes, self.limits).await?;
        let refused: Vec<&Wish> = wishes.iter().filter(|wish| !placed.contains(&wish.order.id)).collect();
        if refused.is_empty() {
            return Ok(HashMap::new());
        }
        let obstacles = store::list_obstacles(conn, &refused).await?;
        Ok(obstacles.into_iter().map(|obstacle| (obstacle.id, obstacle)).collect())
    }

    /// What an obstacle means for the wish it stood in the way of.
    fn judge(&self, wish: &Wish, obstacle: Obstacle) -> Result<Order, Refusal> {
        if let Some(placed) = obstacle.placed_before {
            return if same_wish(&placed, &wish.order) { Ok(placed) } else { Err(Refusal::KeyReused) };
        }
        let mut errors = Vec::new();
        if !obstacle.ssd_exists {
            errors.push(FieldError::new("ssd_id", &format!("there is no device {}", wish.order.ssd_id)));
        }
        if !obstacle.product_exists {
            errors.push(FieldError::new("barcode", &format!("the catalogue has no product {}", wish.order.product_id)));
        }
        if errors.is_empty() && !obstacle.is_timely {
            if let Some(suppressed) = self.log_limit.admit() {
                let id = wish.order.id;
                error!(suppressed, "order {id} was not placed: the clocks of this service and the database disagree");
            }
            return Err(Refusal::ClocksDisagree);
        }
        if errors.is_empty() {
            // It was refused, and what refused it is there now: a device or product that appeared in between.
            return Err(Refusal::Unavailable);
        }
        Err(Refusal::Unknown(errors))
    }
}
