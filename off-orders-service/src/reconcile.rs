//! The reconciler: announces an order again that has come to a halt.
//!
//! Postgres is the truth, and the broker may lose what it acknowledged: at a power cut, with its disk, or by the age of
//! its streams. An order that no message and no wait speaks of any more would stand still for ever. So every order that
//! is under way is looked for again and again, wherever something might move it on, and what is nowhere is announced
//! anew: its state as it is, with the time it reached it. Where that was too early after all, it changes nothing.

use crate::{
    OrdersService,
    store::{self, Suspect},
};
use metrics::counter;
use off_events::{OrderId, OrderStatus, streams};
use off_kit::{Bus, Clock, Kit, Service, Tasks, backoff::Backoff, bus::Outgoing, schedule::Schedule};
use sqlx::PgPool;
use std::{collections::HashMap, time::Duration};
use tokio::time::Instant;
use tracing::{debug, warn};
use uuid::Uuid;

/// How often a page of each state is looked through. Waits for real: what is lost is lost at any speed of the simulation.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Orders of one state that are looked for at once.
const PAGE: i64 = 2000;

/// How long what is on its way may take to arrive, before the look is left for another time: whoever is behind gets no
/// more to do.
const ARRIVES_WITHIN: Duration = Duration::from_secs(20);

/// The pause before the same order is announced once more; doubled each time, for one that cannot be handled.
const AGAIN_AFTER: Duration = Duration::from_mins(1);

/// The longest such pause. What was announced longer ago is forgotten.
const AGAIN_AT_LAST: Duration = Duration::from_hours(1);

/// Looks for orders that have come to a halt, until the service stops.
pub(crate) fn start(kit: &Kit, db: &PgPool, bus: &Bus) {
    let mut reconciler = Reconciler {
        db: db.clone(),
        bus: bus.clone(),
        clock: kit.clock,
        cursors: [Uuid::nil(); 3],
        announced: HashMap::new(),
    };
    let tasks = kit.tasks.clone();
    kit.tasks.spawn("reconciler", async move {
        let mut schedule = Schedule::new().await?;
        schedule.every(LOOK_EVERY, ()).await?;
        schedule.start().await?;
        loop {
            tokio::select! {
                () = tasks.stopping() => return Ok(()),
                due = schedule.next() => due?,
            }
            tokio::select! {
                () = tasks.stopping() => return Ok(()),
                looked = reconciler.look(&tasks) => note(looked),
            }
        }
    });
}

/// Counts a look; one that failed is made another time.
fn note(looked: anyhow::Result<()>) {
    let outcome = match looked {
        Ok(()) => "done",
        Err(error) => {
            debug!("the look for halted orders is left for another time: {error:#}");
            "left"
        }
    };
    counter!("off_order_looks_total", "outcome" => outcome).increment(1);
}

struct Reconciler {
    db: PgPool,
    bus: Bus,
    clock: Clock,
    /// Up to which order each state was looked through; at the end it begins anew.
    cursors: [Uuid; 3],
    /// What was announced again, and when it may be once more.
    announced: HashMap<OrderId, (Instant, Backoff)>,
}

impl Reconciler {
    /// Looks through the next page of each state, and the one after that where something was found.
    async fn look(&mut self, tasks: &Tasks) -> anyhow::Result<()> {
        let now = Instant::now();
        self.announced.retain(|_, (again_at, _)| now < *again_at + AGAIN_AT_LAST);
        for status in OrderStatus::ALL {
            while self.look_through_page(status).await? && !tasks.is_stopping() {}
        }
        Ok(())
    }

    /// Announces again what has halted among the next orders in this state; says whether there was any.
    async fn look_through_page(&mut self, status: OrderStatus) -> anyhow::Result<bool> {
        let after = self.cursors[status as usize];
        let Some(through) = store::find_page_end(&self.db, status, after, PAGE).await? else {
            self.cursors[status as usize] = Uuid::nil();
            return Ok(false);
        };
        let suspects = self.find_halted(status, after, through).await?;
        self.cursors[status as usize] = through;
        let halted = self.due(suspects);
        if halted.is_empty() {
            return Ok(false);
        }
        warn!("announcing {} orders again that were {status} and that nothing in the streams moved on", halted.len());
        let now = self.clock.now();
        let messages = halted
            .iter()
            .map(|suspect| Ok(Outgoing::of(OrdersService::NAME, &suspect.order, suspect.since, None)?.again(now)));
        let messages = messages.collect::<anyhow::Result<_>>()?;
        // What is not acknowledged is found again.
        self.bus.publish_all(messages).await.into_iter().collect::<Result<(), _>>()?;
        self.note_announced(&halted);
        counter!("off_orders_announced_again_total", "status" => status.as_str()).increment(halted.len() as u64);
        Ok(true)
    }

    /// The orders of a page that nothing moves on. Each place is left only for the next one, so they are looked at in
    /// that order, and only who is in none of them at every look has halted.
    async fn find_halted(&self, status: OrderStatus, after: Uuid, through: Uuid) -> anyhow::Result<Vec<Suspect>> {
        let mut suspects = store::list_suspects(&self.db, status, after, through).await?;
        if suspects.is_empty() {
            return Ok(suspects);
        }
        // In the outbox, or in the stream before a consumer.
        if store::has_older_message(&self.db, suspects.iter().map(|suspect| suspect.since).max()).await? {
            anyhow::bail!("the outbox has yet to be carried");
        }
        self.everyone_catches_up().await?;
        let still = store::list_suspects(&self.db, status, after, through).await?;
        retain(&mut suspects, &still);
        // In a wait that the broker keeps.
        if let Some(next) = status.next() {
            let subjects = suspects.iter().map(|suspect| next.timer_subject(suspect.order.id)).collect();
            let kept = self.bus.are_kept(streams::ORDERS.name, subjects).await?;
            let mut kept = kept.into_iter();
            suspects.retain(|_| !kept.next().unwrap_or(true));
        }
        if suspects.is_empty() {
            return Ok(suspects);
        }
        // In the stream again, if the wait ended a moment ago.
        self.everyone_catches_up().await?;
        let still = store::list_suspects(&self.db, status, after, through).await?;
        retain(&mut suspects, &still);
        Ok(suspects)
    }

    async fn everyone_catches_up(&self) -> anyhow::Result<()> {
        let caught_up = self.bus.catch_up(&streams::ORDER_CONSUMERS, ARRIVES_WITHIN).await?;
        anyhow::ensure!(caught_up, "there are consumers that have yet to catch up");
        Ok(())
    }

    /// Those that were not announced again a short while ago.
    fn due(&self, mut suspects: Vec<Suspect>) -> Vec<Suspect> {
        let now = Instant::now();
        suspects.retain(|suspect| self.announced.get(&suspect.order.id).is_none_or(|(again_at, _)| now >= *again_at));
        suspects
    }

    fn note_announced(&mut self, halted: &[Suspect]) {
        let now = Instant::now();
        for suspect in halted {
            let first = || (now, Backoff::new(AGAIN_AFTER, AGAIN_AT_LAST));
            let (again_at, backoff) = self.announced.entry(suspect.order.id).or_insert_with(first);
            *again_at = now + backoff.pause();
        }
    }
}

fn retain(suspects: &mut Vec<Suspect>, still: &[Suspect]) {
    let still: std::collections::HashSet<OrderId> = still.iter().map(|suspect| suspect.order.id).collect();
    suspects.retain(|suspect| still.contains(&suspect.order.id));
}
