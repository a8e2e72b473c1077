//! Reminder: publishes `stock.low` again for products that stay low.
//!
//! A device that missed the message, because the broker lost it or the device was offline, does not order. The repeated
//! message has the same event id. The device uses that id as the idempotency key of its order, so that it orders once.

use crate::{UsersService, domain::ShelfItem, store};
use metrics::counter;
use off_kit::{Bus, Clock, Kit, LogLimit, Service, bus::OutboundMessage, db};
use sqlx::PgPool;
use std::time::Duration;
use tracing::{info, warn};

/// Time until the first reminder, in simulated time. Later reminders follow at doubling intervals. By default, an order
/// takes up to eight minutes.
const FIRST_PAUSE: Duration = Duration::from_mins(15);

/// Time from a refused or cancelled order to the next `stock.low` of its product, in simulated time. A person may have
/// more money then.
const ORDER_AGAIN_PAUSE: Duration = Duration::from_hours(6);

/// Minimum of these pauses in real time, at a high simulation speed.
const MIN_PAUSE: Duration = Duration::from_secs(10);

/// Maximum time between two reminders, in real time.
const MAX_PAUSE: Duration = Duration::from_hours(24);

/// Time until a retry if the broker did not acknowledge a reminder.
const UNACKNOWLEDGED_PAUSE: Duration = Duration::from_secs(5);

/// How often the database is polled for products that need a reminder.
const POLL_INTERVAL: Duration = Duration::from_secs(2);

/// Maximum number of shelf items per batch.
const BATCH_SIZE: i64 = 1000;

/// Time from a product becoming low to its first reminder, in real time.
pub(crate) fn first_pause(clock: Clock) -> Duration {
    clock.real_wait(FIRST_PAUSE).max(clock.shortened(MIN_PAUSE))
}

/// Time from a refused or cancelled order to the next `stock.low` of its product, in real time.
pub(crate) fn order_again_pause(clock: Clock) -> Duration {
    clock.real_wait(ORDER_AGAIN_PAUSE).max(clock.shortened(MIN_PAUSE))
}

/// Starts a task that publishes reminders until the service stops.
pub(crate) fn start(kit: &Kit, db: &PgPool, bus: &Bus) {
    // The background pool commits asynchronously. A lost commit only repeats a reminder, which is harmless.
    let reminder = Reminder { db: db::background_pool(kit, db), bus: bus.clone(), clock: kit.clock };
    let (tasks, log_limit) = (kit.tasks.clone(), LogLimit::default());
    kit.tasks.spawn("reminder", async move {
        let mut polls = tasks.every(POLL_INTERVAL);
        while polls.tick().await {
            tokio::select! {
                () = tasks.stopping() => break,
                reminded = reminder.remind() => {
                    if let Err(error) = reminded
                        && let Some(suppressed) = log_limit.admit()
                    {
                        warn!(suppressed, "reminders for low products failed, retrying at the next poll: {error:#}");
                    }
                }
            }
        }
        Ok(())
    });
}

struct Reminder {
    db: PgPool,
    bus: Bus,
    clock: Clock,
}

impl Reminder {
    async fn remind(&self) -> anyhow::Result<()> {
        // Without a connection, every publish would time out.
        anyhow::ensure!(self.bus.is_connected(), "NATS is not connected");
        db::with_timeout(self.clock, store::reset_distant_reminders(&self.db, MAX_PAUSE, BATCH_SIZE)).await?;
        loop {
            let items =
                db::with_timeout(self.clock, store::claim_low_shelf_items(&self.db, MAX_PAUSE, BATCH_SIZE)).await?;
            self.announce(&items).await?;
            if i64::try_from(items.len())? < BATCH_SIZE {
                return Ok(());
            }
        }
    }

    async fn announce(&self, items: &[ShelfItem]) -> anyhow::Result<()> {
        if items.is_empty() {
            return Ok(());
        }
        let now = self.clock.now();
        let messages = items.iter().filter_map(ShelfItem::low_event).map(|event| {
            Ok(OutboundMessage::of(UsersService::NAME, &event, event.timestamp, None)?.with_new_dedup_id(now))
        });
        let results = self.bus.publish_all(messages.collect::<anyhow::Result<_>>()?).await;
        let unacknowledged: Vec<&ShelfItem> =
            items.iter().zip(&results).filter_map(|(item, result)| result.is_err().then_some(item)).collect();
        let announced = items.len() - unacknowledged.len();
        info!("published reminders for {announced} low products");
        counter!("off_shelf_items_reminded_total").increment(announced as u64);
        if !unacknowledged.is_empty() {
            db::with_timeout(self.clock, store::postpone_reminders(&self.db, &unacknowledged, UNACKNOWLEDGED_PAUSE))
                .await?;
        }
        results.into_iter().collect::<Result<(), _>>().map_err(Into::into)
    }
}
