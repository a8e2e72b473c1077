//! The reminder: says `stock.low` again for a shelf that stays low.
//!
//! What the device did not hear of, because the broker lost it or nobody listened, is not ordered by itself. It is the
//! same message by its id, and an order that is keyed by that is placed once, however often it is said.

use crate::{
    UsersService,
    domain::Shelf,
    store::{self, LowBetween},
};
use chrono::{DateTime, Utc};
use metrics::counter;
use off_kit::{Bus, Clock, Kit, Service, bus::Outgoing, schedule::Schedule};
use sqlx::PgPool;
use std::time::Duration;
use tracing::{info, warn};

/// When a shelf that stays low is first spoken of again, in the simulated world; then at twice that age, and so on. By
/// default an order takes up to eight minutes.
const AGAIN_AFTER: Duration = Duration::from_mins(15);

/// How often it is looked for such shelves; also the least that [`AGAIN_AFTER`] comes to when the simulation hurries.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Shelves spoken of at once.
const PAGE: i64 = 1000;

/// Speaks of shelves that stay low, until the service stops.
pub(crate) fn start(kit: &Kit, db: &PgPool, bus: &Bus) {
    let (db, bus, clock, tasks) = (db.clone(), bus.clone(), kit.clock, kit.tasks.clone());
    kit.tasks.spawn("reminder", async move {
        let mut schedule = Schedule::new().await?;
        schedule.every(LOOK_EVERY, ()).await?;
        schedule.start().await?;
        let mut looked_at = clock.now();
        loop {
            tokio::select! {
                () = tasks.stopping() => return Ok(()),
                due = schedule.next() => due?,
            }
            match remind(&db, &bus, clock, looked_at).await {
                Ok(now) => looked_at = now,
                // The next look is then for all that has become due since the last one.
                Err(error) => warn!("shelves that stay low are not spoken of: {error:#}"),
            }
        }
    });
}

/// Says again what has become due since `looked_at`; the time of this look.
async fn remind(db: &PgPool, bus: &Bus, clock: Clock, looked_at: DateTime<Utc>) -> anyhow::Result<DateTime<Utc>> {
    let now = clock.now();
    let again_after = clock.real_wait(AGAIN_AFTER).max(LOOK_EVERY);
    let due = LowBetween { from: looked_at, to: now, first_age: again_after };
    let mut after = None;
    loop {
        let shelves = store::list_still_low(db, &due, after.as_ref(), PAGE).await?;
        let Some(last) = shelves.last() else { return Ok(now) };
        let messages = shelves
            .iter()
            .filter_map(Shelf::low)
            .map(|event| Ok(Outgoing::of(UsersService::NAME, &event, event.timestamp, None)?.again(now)));
        let messages = messages.collect::<anyhow::Result<_>>()?;
        bus.publish_all(messages).await.into_iter().collect::<Result<(), _>>()?;
        info!("said again that {} shelves are low", shelves.len());
        counter!("off_shelves_reminded_total").increment(shelves.len() as u64);
        after = Some((last.ssd_id, last.barcode.clone()));
    }
}
