//! The publisher: says `orders.pending` from memory, as soon as orders are committed.
//!
//! Such an event needs no outbox row, because the order's own row is found again: the publisher notes what the broker did not
//! acknowledge as unpublished, a service that starts does the same with what was placed shortly before it ended, and
//! recovery publishes it. What both miss, in a crash of everything at once, recovery finds by its deadline.

use crate::{OrdersService, store::recovery};
use futures::{StreamExt, stream};
use metrics::histogram;
use off_events::{Order, OrderId};
use off_kit::{Bus, Kit, LogLimit, Service, Tasks, backoff::Backoff, bus::Outgoing, db, telemetry};
use sqlx::PgPool;
use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tokio::{sync::mpsc, time::Instant};
use tracing::warn;
use uuid::Uuid;

/// The most orders that wait to be published; the intake waits while its batch finds no place among them. As many as a busy
/// service places until a broker that does not answer is given up.
const QUEUE: usize = 8192;

/// The most orders in a round, and the most rounds under way at once.
const ROUND: usize = 1000;
const ROUNDS: usize = 4;

/// How long a round lets more orders gather after the first. The broker works almost as long for one message by itself as for three
/// that come together.
const GATHER_FOR: Duration = Duration::from_millis(5);

/// How long nothing is published after the broker did not acknowledge something: orders would only wait for the same.
const PAUSE: Duration = Duration::from_secs(1);

/// An order that is committed, and the trace of its request.
#[derive(Debug)]
pub(crate) struct Placed {
    pub(crate) order: Order,
    pub(crate) traceparent: Option<String>,
}

#[derive(Debug)]
enum Waiting {
    /// To be published.
    Placed(Placed),
    /// To be noted as unpublished if it is stored.
    Unsure(OrderId),
}

/// Where orders are handed in that are to be published. It goes on until this is gone.
#[derive(Debug)]
pub(crate) struct Publisher(mpsc::Sender<Waiting>);

impl Publisher {
    pub(crate) fn start(kit: &Kit, db: &PgPool, bus: &Bus) -> Self {
        let (queue, waiting) = mpsc::channel(QUEUE);
        // What a crash of Postgres undoes here, is found by its deadline.
        let db = db::background_pool(db);
        let (bus, tasks) = (bus.clone(), kit.tasks.clone());
        let task = Task { db, bus, tasks, failed_at: Mutex::default(), log_limit: LogLimit::default() };
        kit.tasks.spawn("order publisher", async move {
            task.run(waiting).await;
            Ok(())
        });
        Self(queue)
    }

    /// Hands in at most [`QUEUE`] orders; waits until there is room for them.
    pub(crate) async fn publish(&self, orders: Vec<Placed>) {
        // The task ends after this alone.
        let Ok(places) = self.0.reserve_many(orders.len()).await else { return };
        for (place, order) in places.zip(orders) {
            place.send(Waiting::Placed(order));
        }
    }

    /// Hands in orders that may be stored or not. Where there is no room for them, recovery finds those that are by their
    /// deadline.
    pub(crate) fn check(&self, orders: impl ExactSizeIterator<Item = OrderId>) {
        let Ok(places) = self.0.try_reserve_many(orders.len()) else { return };
        for (place, order) in places.zip(orders) {
            place.send(Waiting::Unsure(order));
        }
    }
}

struct Task {
    db: PgPool,
    bus: Bus,
    tasks: Tasks,
    /// When the broker did not acknowledge something, last.
    failed_at: Mutex<Option<Instant>>,
    log_limit: LogLimit,
}

impl Task {
    async fn run(&self, waiting: mpsc::Receiver<Waiting>) {
        let rounds = stream::unfold(waiting, async |mut waiting| {
            let round = next_round(&mut waiting).await;
            (!round.is_empty()).then_some((round, waiting))
        });
        rounds.for_each_concurrent(ROUNDS, |round| self.publish(round)).await;
    }

    /// Publishes a round, and notes what the broker did not acknowledge.
    async fn publish(&self, round: Vec<Waiting>) {
        let started = Instant::now();
        histogram!("off_order_publish_batch_size").record(round.len() as f64);
        let (mut placed, mut unpublished) = (Vec::with_capacity(round.len()), Vec::new());
        for waiting in round {
            match waiting {
                Waiting::Placed(order) => placed.push(order),
                Waiting::Unsure(id) => unpublished.push(id.0),
            }
        }
        let ids: Vec<Uuid> = placed.iter().map(|placed| placed.order.id.0).collect();
        unpublished.extend(if self.is_paused() { ids } else { self.say(placed, ids).await });
        histogram!("off_order_publish_seconds").record(started.elapsed());
        if !unpublished.is_empty() {
            self.note(&unpublished).await;
        }
    }

    /// Whether publishing would only wait.
    fn is_paused(&self) -> bool {
        let failed_at = *self.failed_at.lock().unwrap_or_else(PoisonError::into_inner);
        !self.bus.is_connected() || failed_at.is_some_and(|failed_at| failed_at.elapsed() < PAUSE)
    }

    /// Publishes a round of orders with these ids; the ids of those that the broker did not acknowledge.
    async fn say(&self, round: Vec<Placed>, ids: Vec<Uuid>) -> Vec<Uuid> {
        let messages = round.iter().map(|Placed { order, traceparent }| {
            let trace = telemetry::published(order.status.subject(), order.timestamp, traceparent.as_deref());
            Outgoing::of(OrdersService::NAME, order, order.timestamp, trace.as_deref())
        });
        let answers = match messages.collect() {
            Ok(messages) => self.bus.publish_all(messages).await,
            Err(error) => {
                warn!("{} orders cannot be published: {error}", round.len());
                return ids;
            }
        };
        let mut failure = None;
        let unacknowledged: Vec<Uuid> = ids
            .into_iter()
            .zip(answers)
            .filter_map(|(id, answer)| answer.map_err(|error| failure = Some(error)).err().map(|()| id))
            .collect();
        if let Some(error) = failure {
            *self.failed_at.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
            if let Some(suppressed) = self.log_limit.admit() {
                warn!(suppressed, "{} orders are published later: {error}", unacknowledged.len());
            }
        }
        unacknowledged
    }

    /// Notes orders as unpublished, for recovery. Tries until Postgres takes it or the service stops: then the start of the next
    /// one does it, or the deadline.
    async fn note(&self, ids: &[Uuid]) {
        let mut backoff = Backoff::default();
        while let Err(error) = db::with_timeout(recovery::note_unpublished(&self.db, ids)).await {
            if let Some(suppressed) = self.log_limit.admit() {
                warn!(suppressed, "{} orders cannot be noted as unpublished yet: {error}", ids.len());
            }
            tokio::select! {
                () = self.tasks.stopping() => return,
                () = tokio::time::sleep(backoff.pause()) => {}
            }
        }
    }
}

/// The orders that come within [`GATHER_FOR`] of the first, at most [`ROUND`]; none when no more will come.
async fn next_round(waiting: &mut mpsc::Receiver<Waiting>) -> Vec<Waiting> {
    let mut round = Vec::new();
    if waiting.recv_many(&mut round, ROUND).await > 0 && round.len() < ROUND {
        tokio::time::sleep(GATHER_FOR).await;
        while round.len() < ROUND
            && let Ok(another) = waiting.try_recv()
        {
            round.push(another);
        }
    }
    round
}
