//! Recovery: announces an order again when its next step has not happened by its deadline.
//!
//! Postgres is the truth, and the broker may lose what it acknowledged: at a power cut, with its disk, by the age of its
//! streams, or in a message schedule that never fires. So nothing is concluded from what the broker holds. Checkpoints
//! move over the orders in the order in which they were placed, each as far behind as an order may take to leave a state;
//! what has not left it by then is late, and is looked at again at its own deadline and until it is delivered. An
//! announcement says the order's state as it is, with the time it reached it; one that was not needed changes nothing.

use crate::{
    OrdersService,
    deadlines::TimeLimits,
    intake::BusyTime,
    store::recovery::{self, Overdue},
};
use anyhow::Context;
use metrics::counter;
use off_events::OrderStatus;
use off_kit::{Bus, Clock, Kit, LogLimit, Service, Tasks, bus::Outgoing, db, schedule::Schedule};
use sqlx::PgPool;
use std::time::Duration;
use tokio::time::Instant;
use tracing::warn;

/// How often it is looked for late orders. In real time: what is lost is lost at any speed of the simulation.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// A checkpoint moves over the orders that were placed within so long in one transaction: no more than the intake stores in that time.
const PAGE: Duration = Duration::from_secs(1);

/// The most orders of a clock that was ahead that are noted as late, or brought back, in one go.
const FUTURE_BATCH: i64 = 5000;

/// The states whose checkpoints there are. When the last one passes an order, it is delivered or late.
const CHECKED: [OrderStatus; 2] = [OrderStatus::Pending, OrderStatus::Shipped];

/// The most orders that are announced again in one go.
const ANNOUNCE_BATCH: i64 = 2000;

/// The pause before the same order is announced once more; doubled each time, for one that cannot be handled.
const PAUSE: Duration = Duration::from_secs(30);

/// The longest such pause.
const LONGEST_PAUSE: Duration = Duration::from_hours(1);

/// By how much more a clock may be ahead without anything being wrong.
const CLOCK_SLACK: Duration = Duration::from_mins(1);

/// How long one sweep moves a checkpoint, at most about: one that is far behind does not hold up what is overdue.
const CHECK_FOR: Duration = Duration::from_secs(5);

/// How long one sweep announces, at most about; then checkpoints move on.
const ANNOUNCE_FOR: Duration = Duration::from_secs(5);

/// While orders are placed, recovery rests after a batch so many times as long as the batch took, times the share of that time in
/// which the intake was busy.
const REST: f64 = 30.0;

/// The longest such rest.
const LONGEST_REST: Duration = Duration::from_secs(5);

/// How long before the last order of an earlier run orders may have been placed that it did not publish: it gives up an
/// acknowledgement after 5 seconds, and the rest is for a restart beside replicas, which go on placing orders.
const LAST: Duration = Duration::from_mins(1);

/// The most of them that are noted in one go.
const LAST_BATCH: i64 = 5000;

/// The pause where the broker did not acknowledge an announcement.
const UNACKNOWLEDGED_PAUSE: Duration = Duration::from_secs(5);

/// Recovers overdue orders until the service stops.
pub(crate) fn start(kit: &Kit, db: &PgPool, bus: &Bus, limits: TimeLimits, intake: BusyTime) {
    // A checkpoint that a crash sets back is moved again, and what is announced twice changes nothing.
    let db = db::background_pool(db);
    let (tasks, log_limit) = (kit.tasks.clone(), LogLimit::default());
    let (bus, clock, last_noted) = (bus.clone(), kit.clock, false);
    let mut recovery = Recovery { db, bus, clock, tasks, limits, intake, log_limit, last_noted };
    kit.tasks.spawn("order recovery", async move {
        let mut schedule = Schedule::new().await?;
        schedule.every(POLL_INTERVAL, ()).await?;
        schedule.start().await?;
        // Before there are new ones.
        recovery.note_last().await;
        let tasks = recovery.tasks.clone();
        loop {
            tokio::select! {
                () = tasks.stopping() => return Ok(()),
                due = schedule.next() => due?,
            }
            tokio::select! {
                () = tasks.stopping() => return Ok(()),
                () = recovery.sweep() => {}
            }
        }
    });
}

struct Recovery {
    db: PgPool,
    bus: Bus,
    clock: Clock,
    tasks: Tasks,
    limits: TimeLimits,
    intake: BusyTime,
    log_limit: LogLimit,
    /// Whether the last orders before the start were noted as unpublished.
    last_noted: bool,
}

impl Recovery {
    /// Finds what is late and announces what is overdue. Neither waits for the other: what fails is tried at the next poll.
    async fn sweep(&mut self) {
        if !self.last_noted {
            self.note_last().await;
        }
        self.note("check", self.find_late().await);
        self.note("announce", self.announce_overdue().await);
    }

    /// A service that crashed has not published its last orders.
    async fn note_last(&mut self) {
        let noted = self.note_pages_of_last().await;
        self.last_noted = noted.is_ok();
        self.note("start", noted);
    }

    async fn note_pages_of_last(&self) -> anyhow::Result<()> {
        let mut next = db::with_timeout(recovery::find_last(&self.db, LAST)).await?;
        while let Some(after) = next {
            next = db::with_timeout(recovery::note_page_unpublished(&self.db, after, LAST_BATCH)).await?;
        }
        Ok(())
    }

    async fn find_late(&self) -> anyhow::Result<()> {
        let horizon = db::with_timeout(recovery::find_horizon(&self.db)).await?;
        db::with_timeout(recovery::note_placed_in_future(&self.db, horizon.now, FUTURE_BATCH)).await?;
        db::with_timeout(recovery::reset_distant_checks(&self.db, self.longest_wait(), FUTURE_BATCH)).await?;
        for status in CHECKED {
            let placed_before = horizon.visible - self.limits.since_placed(status);
            let began = Instant::now();
            while began.elapsed() < CHECK_FOR
                && db::with_timeout(recovery::move_checkpoint(&self.db, status, placed_before, PAGE)).await?
            {
            }
        }
        Ok(())
    }

    /// The longest that anything here waits by a right clock: for a deadline, or a pause with what chance adds.
    fn longest_wait(&self) -> Duration {
        self.limits.since_placed(OrderStatus::Completed).max(LONGEST_PAUSE.mul_f64(1.25)) + CLOCK_SLACK
    }

    async fn announce_overdue(&self) -> anyhow::Result<()> {
        // Without a connection every announcement would only time out.
        anyhow::ensure!(self.bus.is_connected(), "NATS is not connected");
        let sweep_began = Instant::now();
        while sweep_began.elapsed() < ANNOUNCE_FOR {
            let (started, busy) = (Instant::now(), self.intake.get());
            let (taken, overdue) = db::with_timeout(recovery::take_overdue(
                &self.db,
                PAUSE,
                LONGEST_PAUSE,
                self.longest_wait(),
                ANNOUNCE_BATCH,
            ))
            .await?;
            self.announce(&overdue).await?;
            if i64::try_from(taken)? < ANNOUNCE_BATCH || self.tasks.is_stopping() {
                return Ok(());
            }
            let rest = self.intake.get().saturating_sub(busy).min(started.elapsed()).mul_f64(REST).min(LONGEST_REST);
            tokio::select! {
                () = self.tasks.stopping() => return Ok(()),
                () = tokio::time::sleep(rest) => {}
            }
        }
        Ok(())
    }

    async fn announce(&self, overdue: &[Overdue]) -> anyhow::Result<()> {
        if overdue.is_empty() {
            return Ok(());
        }
        if let Some(suppressed) = self.log_limit.admit() {
            let first = overdue[0].order.id;
            warn!(suppressed, "announcing {} overdue or unpublished orders, the first is {first}", overdue.len());
        }
        let now = self.clock.now();
        let messages = overdue.iter().map(|late| {
            // The broker may have acknowledged what is unpublished to a service that did not live to hear it: the same message.
            let again = (!late.is_unpublished).then_some(now);
            Ok(Outgoing::of(OrdersService::NAME, &late.order, late.since, None)?.announced_again(again))
        });
        let answers = self.bus.publish_all(messages.collect::<anyhow::Result<_>>()?).await;
        let mut unacknowledged = Vec::new();
        let mut failure = None;
        let mut published = Vec::new();
        for (late, answer) in overdue.iter().zip(answers) {
            let status = late.order.status.as_str();
            match answer {
                Ok(()) if late.is_unpublished => published.push(late.order.id.0),
                Ok(()) => counter!("off_orders_announced_again_total", "status" => status).increment(1),
                Err(error) => {
                    unacknowledged.push(late.order.id.0);
                    failure = Some(error);
                }
            }
        }
        if !published.is_empty() {
            db::with_timeout(recovery::note_published(&self.db, &published)).await?;
        }
        let Some(error) = failure else { return Ok(()) };
        db::with_timeout(recovery::postpone(&self.db, &unacknowledged, UNACKNOWLEDGED_PAUSE)).await?;
        Err(error).with_context(|| format!("{} overdue orders were not announced", unacknowledged.len()))
    }

    /// Counts a part of a sweep, and logs why it failed.
    fn note(&self, part: &'static str, outcome: anyhow::Result<()>) {
        let label = match outcome {
            Ok(()) => "done",
            Err(error) => {
                if let Some(suppressed) = self.log_limit.admit() {
                    warn!(suppressed, "the {part} of late orders failed, the next poll tries again: {error:#}");
                }
                "failed"
            }
        };
        counter!("off_recovery_sweeps_total", "part" => part, "outcome" => label).increment(1);
    }
}
