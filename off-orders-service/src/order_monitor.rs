//! Metrics and readiness warnings about unpublished, overdue and open orders. A stalled order shows as a growing age.

use crate::store::late_orders::{self, LateCounts};
use metrics::gauge;
use off_kit::{Kit, db};
use sqlx::PgPool;
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tracing::warn;

/// How often the database is queried.
const POLL_INTERVAL: Duration = Duration::from_secs(10);

/// An order that waits longer than this for the broker's acknowledgement causes a warning.
const WARN_AFTER: Duration = Duration::from_secs(15);

/// Starts a task that counts late orders and finds the oldest order in each status under way, until the service stops.
pub(crate) fn start(kit: &Kit, pool: &PgPool) {
    let (pool, clock, tasks) = (pool.clone(), kit.clock, kit.tasks.clone());
    let late = Arc::<Mutex<Option<LateCounts>>>::default();
    let warned = late.clone();
    kit.readiness_checks.add_warning("orders", move || {
        let late = warned.lock().unwrap_or_else(PoisonError::into_inner);
        let overdue = late.as_ref().map(|late| late.still_overdue).filter(|overdue| *overdue > 0)?;
        Some(format!("{overdue} orders are overdue although they were announced again: see `off audit`"))
    });
    let warned = late.clone();
    kit.readiness_checks.add_warning("unpublished", move || {
        let late = warned.lock().unwrap_or_else(PoisonError::into_inner);
        let late = late.as_ref()?;
        let lag = (clock.now() - late.first_unpublished?).to_std().ok().filter(|lag| *lag > WARN_AFTER)?;
        let (orders, seconds) = (late.unpublished, lag.as_secs());
        Some(format!(
            "{orders} orders wait for the broker's acknowledgement, the oldest for {seconds} s: is NATS up, and has \
             its disk room? A nats-server whose disk was full may need a restart"
        ))
    });
    kit.tasks.spawn("order ages", async move {
        let mut polls = tasks.every(clock.shortened(POLL_INTERVAL));
        while polls.tick().await {
            match db::with_timeout(clock, late_orders::count_late(&pool)).await {
                Ok(counted) => {
                    gauge!("off_orders_overdue").set(counted.still_overdue as f64);
                    gauge!("off_orders_unpublished").set(counted.unpublished as f64);
                    *late.lock().unwrap_or_else(PoisonError::into_inner) = Some(counted);
                }
                Err(error) => warn!("counting late orders failed, retrying at the next poll: {error}"),
            }
            match db::with_timeout(clock, late_orders::find_oldest(&pool)).await {
                Ok(oldest) => {
                    for (status, placed_at) in oldest {
                        let age = placed_at.and_then(|placed_at| (clock.now() - placed_at).to_std().ok());
                        gauge!("off_order_oldest_seconds", "status" => status.as_str())
                            .set(age.unwrap_or_default().as_secs_f64());
                    }
                }
                Err(error) => warn!("finding the oldest orders failed, retrying at the next poll: {error}"),
            }
        }
        Ok(())
    });
}
