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
    store::recovery::{self, Overdue},
};
use anyhow::Context;
use metrics::counter;
use off_events::OrderStatus;
use off_kit::{Bus, Clock, Kit, Service, Tasks, bus::Outgoing, db, schedule::Schedule};
use sqlx::PgPool;
use std::time::Duration;
use tracing::{debug, warn};

/// How often it is looked for late orders. In real time: what is lost is lost at any speed of the simulation.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// The most orders that a checkpoint moves over in one transaction.
const CHECK_BATCH: i64 = 5000;

/// The most orders that are announced again in one go.
const ANNOUNCE_BATCH: i64 = 1000;

/// The pause before the same order is announced once more; doubled each time, for one that cannot be handled.
const PAUSE: Duration = Duration::from_secs(30);

/// The longest such pause.
const LONGEST_PAUSE: Duration = Duration::from_hours(1);

/// The pause where the broker did not acknowledge an announcement.
const UNACKNOWLEDGED_PAUSE: Duration = Duration::from_secs(5);

/// Recovers overdue orders until the service stops.
pub(crate) fn start(kit: &Kit, db: &PgPool, bus: &Bus, limits: TimeLimits) {
    // A checkpoint that a crash sets back is moved again, and what is announced twice changes nothing.
    let db = db::background_pool(db);
    let recovery = Recovery { db, bus: bus.clone(), clock: kit.clock, tasks: kit.tasks.clone(), limits };
    kit.tasks.spawn("order recovery", async move {
        let mut schedule = Schedule::new().await?;
        schedule.every(POLL_INTERVAL, ()).await?;
        schedule.start().await?;
        loop {
            tokio::select! {
                () = recovery.tasks.stopping() => return Ok(()),
                due = schedule.next() => due?,
            }
            tokio::select! {
                () = recovery.tasks.stopping() => return Ok(()),
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
}

impl Recovery {
    /// Finds what is late and announces what is overdue. Neither waits for the other: what fails is tried at the next poll.
    async fn sweep(&self) {
        note("check", self.find_late().await);
        note("announce", self.announce_overdue().await);
    }

    async fn find_late(&self) -> anyhow::Result<()> {
        let horizon = recovery::find_horizon(&self.db).await?;
        recovery::note_placed_in_future(&self.db, horizon, CHECK_BATCH).await?;
        for status in OrderStatus::ALL {
            let placed_before = horizon - self.limits.since_placed(status);
            while recovery::move_checkpoint(&self.db, status, placed_before, CHECK_BATCH).await? == CHECK_BATCH {}
        }
        Ok(())
    }

    async fn announce_overdue(&self) -> anyhow::Result<()> {
        // Without a connection every announcement would only time out.
        anyhow::ensure!(self.bus.is_connected(), "NATS is not connected");
        loop {
            let (taken, overdue) = recovery::take_overdue(&self.db, PAUSE, LONGEST_PAUSE, ANNOUNCE_BATCH).await?;
            self.announce(&overdue).await?;
            if i64::try_from(taken)? < ANNOUNCE_BATCH || self.tasks.is_stopping() {
                return Ok(());
            }
        }
    }

    async fn announce(&self, overdue: &[Overdue]) -> anyhow::Result<()> {
        if overdue.is_empty() {
            return Ok(());
        }
        warn!("announcing {} overdue orders again, the first is {}", overdue.len(), overdue[0].order.id);
        let now = self.clock.now();
        let messages =
            overdue.iter().map(|late| Ok(Outgoing::of(OrdersService::NAME, &late.order, late.since, None)?.again(now)));
        let answers = self.bus.publish_all(messages.collect::<anyhow::Result<_>>()?).await;
        let mut unacknowledged = Vec::new();
        let mut failure = None;
        for (late, answer) in overdue.iter().zip(answers) {
            let status = late.order.status.as_str();
            match answer {
                Ok(()) => counter!("off_orders_announced_again_total", "status" => status).increment(1),
                Err(error) => {
                    unacknowledged.push(late.order.id.0);
                    failure = Some(error);
                }
            }
        }
        let Some(error) = failure else { return Ok(()) };
        recovery::postpone(&self.db, &unacknowledged, UNACKNOWLEDGED_PAUSE).await?;
        Err(error).with_context(|| format!("{} overdue orders were not announced", unacknowledged.len()))
    }
}

/// Counts a part of a sweep.
fn note(part: &'static str, outcome: anyhow::Result<()>) {
    let label = match outcome {
        Ok(()) => "done",
        Err(error) => {
            debug!("the {part} of late orders failed, the next poll tries again: {error:#}");
            "failed"
        }
    };
    counter!("off_recovery_sweeps_total", "part" => part, "outcome" => label).increment(1);
}
