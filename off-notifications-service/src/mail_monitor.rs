//! Metrics and a readiness warning about e-mails that wait.

use crate::store;
use metrics::gauge;
use off_kit::{Kit, db};
use sqlx::PgPool;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tracing::warn;

/// How often the database is queried.
const POLL_INTERVAL: Duration = Duration::from_secs(10);

/// An e-mail that waits longer than this causes a warning. One that is refused at first, as greylisting servers do, waits
/// for less.
const WARN_AFTER: Duration = Duration::from_hours(2);

/// Starts a task that counts the e-mails that wait, until the service stops.
pub(crate) fn start(kit: &Kit, pool: &PgPool) {
    let (pool, clock, tasks) = (pool.clone(), kit.clock, kit.tasks.clone());
    let oldest_seconds = Arc::<AtomicU64>::default();
    let warned = oldest_seconds.clone();
    kit.readiness_checks.add_warning("mail", move || {
        let seconds = warned.load(Ordering::Relaxed);
        (seconds > WARN_AFTER.as_secs()).then(|| {
            format!("e-mails wait, the oldest for {} min: does the mail server of SMTP_URL accept them?", seconds / 60)
        })
    });
    kit.tasks.spawn("mail monitor", async move {
        let mut polls = tasks.every(POLL_INTERVAL);
        while polls.tick().await {
            match db::with_timeout(clock, store::count_mails(&pool)).await {
                Ok(backlog) => {
                    let age =
                        backlog.oldest.and_then(|oldest| (clock.now() - oldest).to_std().ok()).unwrap_or_default();
                    gauge!("off_mail_backlog").set(backlog.count as f64);
                    gauge!("off_mail_oldest_seconds").set(age.as_secs_f64());
                    oldest_seconds.store(age.as_secs(), Ordering::Relaxed);
                }
                Err(error) => warn!("counting e-mails failed, retrying at the next poll: {error}"),
            }
        }
        Ok(())
    });
}
