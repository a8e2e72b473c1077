//! How old the orders under way are, for metrics and health: what stands still grows old.

use crate::store::recovery;
use metrics::gauge;
use off_kit::Kit;
use sqlx::PgPool;
use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};
use tracing::debug;

/// How often it is looked.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Looks for the oldest order of each state under way, until the service stops.
pub(crate) fn start(kit: &Kit, db: &PgPool) {
    let (db, clock, tasks) = (db.clone(), kit.clock, kit.tasks.clone());
    let overdue = Arc::new(AtomicI64::new(0));
    let warned = overdue.clone();
    kit.needs.add_warning("orders", move || {
        let overdue = warned.load(Ordering::Relaxed);
        (overdue > 0).then(|| {
            format!("{overdue} orders were overdue, were announced again, and have not moved on yet: see `off audit`")
        })
    });
    kit.tasks.spawn("order ages", async move {
        loop {
            tokio::select! {
                () = tasks.stopping() => return Ok(()),
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            match recovery::count_overdue(&db).await {
                Ok(count) => {
                    gauge!("off_orders_overdue").set(count as f64);
                    overdue.store(count, Ordering::Relaxed);
                }
                Err(error) => debug!("overdue orders are counted another time: {error}"),
            }
            match recovery::find_oldest(&db).await {
                Ok(oldest) => {
                    for (status, placed_at) in oldest {
                        let age = placed_at.and_then(|placed_at| (clock.now() - placed_at).to_std().ok());
                        gauge!("off_order_oldest_seconds", "status" => status.as_str())
                            .set(age.unwrap_or_default().as_secs_f64());
                    }
                }
                Err(error) => debug!("the oldest orders are looked for another time: {error}"),
            }
        }
    });
}
