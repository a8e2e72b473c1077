//! Recovery: announces an order again when its next step has not happened by its deadline.
//!
//! Postgres is the source of truth. The broker may lose messages that it acknowledged: in a power cut, with its disk,
//! by the maximum age of a stream, or in a message schedule that never fires. So recovery does not rely on what the
//! broker holds.
//!
//! There is a checkpoint per status. It moves over the orders by the time at which they were placed, and stays behind
//! the present by the time that an order may take to leave the status. An order that has not left the status when the
//! checkpoint passes it is late. A late order is checked again at its own deadline, and then until it is done. An
//! announcement repeats the event of the order's current status, with the time at which the order reached it. It is
//! idempotent.

use crate::{
    OrdersService,
    deadlines::TimeLimits,
    intake::BusyCounter,
    store::{
        checkpoints,
        late_orders::{self, Announcement},
    },
};
use anyhow::Context;
use metrics::counter;
use off_events::OrderStatus;
use off_kit::{Bus, Clock, Kit, LogLimit, Service, Tasks, bus::OutboundMessage, db};
use sqlx::PgPool;
use std::time::Duration;
use tokio::time::Instant;
use tracing::warn;

/// How often recovery looks for late orders. In real time, because messages are lost at any speed of the simulation.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// A checkpoint moves over at most this much placement time in a transaction, which bounds the rows that it reads.
const CHECKPOINT_STEP: Duration = Duration::from_secs(1);

/// Maximum number of orders with times from a clock that was ahead that are corrected per sweep: recorded as late, or
/// checked earlier.
const FUTURE_BATCH_SIZE: i64 = 5000;

/// The statuses that have a checkpoint. The first also finds orders that are still pending: a checkpoint reads each order
/// once, and one more would find them only some minutes earlier. After the last checkpoint has passed an order, the order
/// is done or late.
const CHECKED: [OrderStatus; 2] = [OrderStatus::Paid, OrderStatus::Shipped];

/// Maximum number of orders that are announced again in one batch.
const ANNOUNCE_BATCH_SIZE: i64 = 2000;

/// The pause before the same order is announced once more. It doubles each time, because an order that cannot be
/// handled would otherwise be announced every 30 s.
const INITIAL_PAUSE: Duration = Duration::from_secs(30);

/// Maximum pause between announcements of the same order.
const MAX_PAUSE: Duration = Duration::from_hours(1);

/// A check may be at most this much later than [`Recovery::max_check_delay`]. If it is later still, a clock that was
/// ahead has set it.
const FUTURE_TOLERANCE: Duration = Duration::from_mins(1);

/// After about this time a sweep stops moving a checkpoint, so that one far behind does not delay overdue orders.
const MAX_CHECK_TIME: Duration = Duration::from_secs(5);

/// After about this time a sweep stops announcing, so that the checkpoints move on.
const MAX_ANNOUNCE_TIME: Duration = Duration::from_secs(5);

/// While orders are placed, recovery rests after each batch, so that the intake is not slowed down. The rest is this
/// factor times the time for which the intake was busy during the batch.
const REST_FACTOR: f64 = 30.0;

/// Maximum rest after a batch.
const MAX_REST: Duration = Duration::from_secs(5);

/// At a start, pending orders from this long before the newest order on are recorded as unpublished: 5 s for an
/// acknowledgement, the rest for orders that other replicas placed during the restart.
const RECENT: Duration = Duration::from_mins(1);

/// Maximum number of recent orders that are recorded as unpublished in one statement.
const RECENT_BATCH_SIZE: i64 = 5000;

/// The pause before an announcement is retried that the broker did not acknowledge.
const UNACKNOWLEDGED_PAUSE: Duration = Duration::from_secs(5);

/// Starts a task that announces overdue and unpublished orders again, until the service stops.
pub(crate) fn start(kit: &Kit, db: &PgPool, bus: &Bus, limits: TimeLimits, intake_busy: BusyCounter) {
    // A crash of Postgres may undo the last writes of this pool. Then checkpoints move again and orders are announced
    // twice, which is harmless.
    let db = db::background_pool(kit, db);
    let (tasks, log_limit) = (kit.tasks.clone(), LogLimit::default());
    let (bus, clock, recent_recorded) = (bus.clone(), kit.clock, false);
    let mut recovery = Recovery { db, bus, clock, tasks, limits, intake_busy, log_limit, recent_recorded };
    kit.tasks.spawn("order recovery", async move {
        // Before the first sweep. Orders that this run places meanwhile are recorded, too, which is harmless.
        recovery.record_recent().await;
        let tasks = recovery.tasks.clone();
        let mut polls = tasks.every(POLL_INTERVAL);
        while polls.tick().await {
            tokio::select! {
                () = tasks.stopping() => break,
                () = recovery.sweep() => {}
            }
        }
        Ok(())
    });
}

struct Recovery {
    db: PgPool,
    bus: Bus,
    clock: Clock,
    tasks: Tasks,
    limits: TimeLimits,
    intake_busy: BusyCounter,
    log_limit: LogLimit,
    /// Whether the pending orders of the minute before the newest order were recorded as unpublished.
    recent_recorded: bool,
}

impl Recovery {
    /// Finds late orders and announces overdue ones. If one of them fails, the other still runs; the next poll retries.
    async fn sweep(&mut self) {
        if !self.recent_recorded {
            self.record_recent().await;
        }
        self.record_outcome("find_late", self.find_late().await);
        self.record_outcome("announce_overdue", self.announce_overdue().await);
    }

    /// Records recent pending orders as unpublished: a service that crashed has not published its last orders.
    async fn record_recent(&mut self) {
        let outcome = self.record_recent_pages().await;
        self.recent_recorded = outcome.is_ok();
        self.record_outcome("record_recent", outcome);
    }

    async fn record_recent_pages(&self) -> anyhow::Result<()> {
        let mut next = db::with_timeout(self.clock, late_orders::find_recent_start(&self.db, RECENT)).await?;
        while let Some(after) = next {
            next =
                db::with_timeout(self.clock, late_orders::record_page_unpublished(&self.db, after, RECENT_BATCH_SIZE))
                    .await?;
        }
        Ok(())
    }

    /// Moves the checkpoints, and corrects orders and checks that a clock which was ahead put into the future.
    async fn find_late(&self) -> anyhow::Result<()> {
        let horizon = db::with_timeout(self.clock, checkpoints::find_horizon(&self.db)).await?;
        db::with_timeout(self.clock, late_orders::record_placed_in_future(&self.db, horizon.now, FUTURE_BATCH_SIZE))
            .await?;
        db::with_timeout(
            self.clock,
            late_orders::reset_distant_checks(&self.db, self.max_check_delay(), FUTURE_BATCH_SIZE),
        )
        .await?;
        for status in CHECKED {
            let placed_before = horizon.complete_before - self.limits.since_placed(status);
            let started = Instant::now();
            while started.elapsed() < MAX_CHECK_TIME
                && db::with_timeout(
                    self.clock,
                    checkpoints::move_checkpoint(&self.db, status, placed_before, CHECKPOINT_STEP),
                )
                .await?
            {}
        }
        Ok(())
    }

    /// The maximum time until the next check of a late order, by correct clocks: a deadline, or a pause with jitter.
    fn max_check_delay(&self) -> Duration {
        self.limits.since_placed(OrderStatus::Completed).max(MAX_PAUSE.mul_f64(1.25)) + FUTURE_TOLERANCE
    }

    /// Announces overdue and unpublished orders, batch by batch.
    async fn announce_overdue(&self) -> anyhow::Result<()> {
        // Without a connection every announcement would time out.
        anyhow::ensure!(self.bus.is_connected(), "NATS is not connected");
        let sweep_started = Instant::now();
        while sweep_started.elapsed() < MAX_ANNOUNCE_TIME {
            let (started, busy) = (Instant::now(), self.intake_busy.get());
            let (claimed, announcements) = db::with_timeout(
                self.clock,
                late_orders::claim_announcements(
                    &self.db,
                    self.clock.shortened(INITIAL_PAUSE),
                    MAX_PAUSE,
                    self.max_check_delay(),
                    ANNOUNCE_BATCH_SIZE,
                ),
            )
            .await?;
            self.announce(&announcements).await?;
            if i64::try_from(claimed)? < ANNOUNCE_BATCH_SIZE || self.tasks.is_stopping() {
                return Ok(());
            }
            let rest =
                self.intake_busy.get().saturating_sub(busy).min(started.elapsed()).mul_f64(REST_FACTOR).min(MAX_REST);
            tokio::select! {
                () = self.tasks.stopping() => return Ok(()),
                () = tokio::time::sleep(rest) => {}
            }
        }
        Ok(())
    }

    /// Publishes the events of these orders, and records which of them the broker acknowledged.
    async fn announce(&self, announcements: &[Announcement]) -> anyhow::Result<()> {
        if announcements.is_empty() {
            return Ok(());
        }
        if let Some(suppressed) = self.log_limit.admit() {
            let unpublished = announcements.iter().filter(|announcement| announcement.is_unpublished).count();
            let (overdue, first) = (announcements.len() - unpublished, announcements[0].order.id);
            warn!(
                suppressed,
                "publishing {unpublished} unpublished and {overdue} overdue orders again, the first is {first}"
            );
        }
        let now = self.clock.now();
        let messages = announcements.iter().map(|announcement| {
            let message = OutboundMessage::of(OrdersService::NAME, &announcement.order, announcement.since, None)?;
            // The broker may have stored an unpublished event although its acknowledgement was lost: it deduplicates by
            // the original id.
            Ok(if announcement.is_unpublished { message } else { message.with_new_dedup_id(now) })
        });
        let results = self.bus.publish_all(messages.collect::<anyhow::Result<_>>()?).await;
        let mut unacknowledged = Vec::new();
        let mut failure = None;
        let mut published = Vec::new();
        let (mut announced, mut statuses) = (Vec::new(), Vec::new());
        for (announcement, result) in announcements.iter().zip(results) {
            let status = announcement.order.status.as_str();
            match result {
                Ok(()) if announcement.is_unpublished => published.push(announcement.order.id.0),
                Ok(()) => {
                    counter!("off_orders_announced_again_total", "status" => status).increment(1);
                    announced.push(announcement.order.id.0);
                    statuses.push(status);
                }
                Err(error) => {
                    unacknowledged.push(announcement.order.id.0);
                    failure = Some(error);
                }
            }
        }
        if !published.is_empty() {
            db::with_timeout(self.clock, late_orders::record_published(&self.db, &published)).await?;
        }
        if !announced.is_empty() {
            let recorded = late_orders::record_announced(&self.db, &announced, &statuses, now);
            db::with_timeout(self.clock, recorded).await?;
        }
        let Some(error) = failure else { return Ok(()) };
        db::with_timeout(self.clock, late_orders::retry_announcements(&self.db, &unacknowledged, UNACKNOWLEDGED_PAUSE))
            .await?;
        Err(error).with_context(|| format!("the broker did not acknowledge {} announcements", unacknowledged.len()))
    }

    /// Counts the outcome of a part of a sweep, and logs a failure.
    fn record_outcome(&self, part: &'static str, outcome: anyhow::Result<()>) {
        let label = match outcome {
            Ok(()) => "done",
            Err(error) => {
                if let Some(suppressed) = self.log_limit.admit() {
                    warn!(suppressed, "recovery part `{part}` failed, retrying at the next poll: {error:#}");
                }
                "failed"
            }
        };
        counter!("off_recovery_sweeps_total", "part" => part, "outcome" => label).increment(1);
    }
}
