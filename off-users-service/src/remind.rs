//! The reminder: announces `stock.low` again for a shelf that stays low.
//!
//! What the device did not hear of, because the broker lost it or nobody listened, is not ordered by itself. It is the
//! same message by its id, and an order that is keyed by that is placed once, however often it is announced.

use crate::{UsersService, domain::Shelf, store};
use metrics::counter;
use off_kit::{Bus, Clock, Kit, Service, bus::Outgoing, db, schedule::Schedule};
use sqlx::PgPool;
use std::time::Duration;
use tracing::{debug, info};

/// When a shelf that stays low is first announced again, in the simulated world; then at twice that age, and so on. By
/// default an order takes up to eight minutes.
const FIRST_PAUSE: Duration = Duration::from_mins(15);

/// The least that [`FIRST_PAUSE`] comes to when the simulation hurries.
const SHORTEST_PAUSE: Duration = Duration::from_secs(10);

/// The longest pause between two announcements, in real time.
const LONGEST_PAUSE: Duration = Duration::from_hours(24);

/// The pause where the broker did not acknowledge an announcement.
const UNACKNOWLEDGED_PAUSE: Duration = Duration::from_secs(5);

/// How often it is looked for such shelves.
const POLL_INTERVAL: Duration = Duration::from_secs(2);

/// The most shelves announced in one go.
const BATCH: i64 = 1000;

/// How long after a shelf has become low it is announced again, in real time.
pub(crate) fn first_pause(clock: Clock) -> Duration {
    clock.real_wait(FIRST_PAUSE).max(SHORTEST_PAUSE)
}

/// Announces shelves that stay low, until the service stops.
pub(crate) fn start(kit: &Kit, db: &PgPool, bus: &Bus) {
    // A shelf that is announced twice is ordered for once.
    let reminder = Reminder { db: db::background_pool(db), bus: bus.clone(), clock: kit.clock };
    let tasks = kit.tasks.clone();
    kit.tasks.spawn("reminder", async move {
        let mut schedule = Schedule::new().await?;
        schedule.every(POLL_INTERVAL, ()).await?;
        schedule.start().await?;
        loop {
            tokio::select! {
                () = tasks.stopping() => return Ok(()),
                due = schedule.next() => due?,
            }
            tokio::select! {
                () = tasks.stopping() => return Ok(()),
                reminded = reminder.remind() => {
                    if let Err(error) = reminded {
                        debug!("shelves that stay low were not announced, the next poll tries again: {error:#}");
                    }
                }
            }
        }
    });
}

struct Reminder {
    db: PgPool,
    bus: Bus,
    clock: Clock,
}

impl Reminder {
    async fn remind(&self) -> anyhow::Result<()> {
        // Without a connection every announcement would only time out.
        anyhow::ensure!(self.bus.is_connected(), "NATS is not connected");
        db::with_timeout(store::reset_distant_reminders(&self.db, LONGEST_PAUSE, BATCH)).await?;
        loop {
            let shelves = db::with_timeout(store::take_low_shelves(&self.db, LONGEST_PAUSE, BATCH)).await?;
            self.announce(&shelves).await?;
            if i64::try_from(shelves.len())? < BATCH {
                return Ok(());
            }
        }
    }

    async fn announce(&self, shelves: &[Shelf]) -> anyhow::Result<()> {
        if shelves.is_empty() {
            return Ok(());
        }
        let now = self.clock.now();
        let messages = shelves.iter().filter_map(Shelf::low).map(|event| {
            Ok(Outgoing::of(UsersService::NAME, &event, event.timestamp, None)?.announced_again(Some(now)))
        });
        let answers = self.bus.publish_all(messages.collect::<anyhow::Result<_>>()?).await;
        let refused: Vec<&Shelf> =
            shelves.iter().zip(&answers).filter_map(|(shelf, answer)| answer.is_err().then_some(shelf)).collect();
        let announced = shelves.len() - refused.len();
        info!("announced again that {announced} shelves are low");
        counter!("off_shelves_reminded_total").increment(announced as u64);
        if !refused.is_empty() {
            db::with_timeout(store::postpone_reminders(&self.db, &refused, UNACKNOWLEDGED_PAUSE)).await?;
        }
        answers.into_iter().collect::<Result<(), _>>().map_err(Into::into)
    }
}
