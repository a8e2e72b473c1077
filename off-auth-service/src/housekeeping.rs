//! Deletes sessions and keys that ended long ago, and counts of sign-in attempts that limit nobody any more.

use crate::store;
use chrono::TimeDelta;
use off_kit::{Clock, Kit, db};
use sqlx::PgPool;
use std::time::Duration;
use tracing::{debug, warn};

/// How long an ended session or key is kept, for questions about it.
const KEPT_FOR: TimeDelta = TimeDelta::days(30);

/// How often old rows are looked for.
const INTERVAL: Duration = Duration::from_mins(10);

/// Maximum number of rows of a table in a batch.
const BATCH_SIZE: i64 = 1000;

/// Maximum number of batches in a run: more rows than attempts of any hashing rate leave in an interval.
const MAX_BATCHES: usize = 1000;

/// Starts a task that deletes old rows until the service stops. Replicas skip each other's locked rows.
pub(crate) fn start(kit: &Kit, db: &PgPool) {
    // The background pool commits asynchronously. Rows of a lost commit are deleted again.
    let (db, clock, tasks) = (db::background_pool(kit, db), kit.clock, kit.tasks.clone());
    kit.tasks.spawn("housekeeping", async move {
        let mut runs = tasks.every(clock.shortened(INTERVAL));
        while runs.tick().await {
            tokio::select! {
                () = tasks.stopping() => break,
                deleted = delete_old(&db, clock) => match deleted {
                    Ok(deleted) => debug!("deleted {deleted} old sessions, keys and counts of attempts"),
                    Err(error) => warn!("cannot delete old sessions, keys and counts of attempts, retrying later: {error}"),
                }
            }
        }
        Ok(())
    });
}

/// Deletes rows of all tables in batches; returns their number.
async fn delete_old(db: &PgPool, clock: Clock) -> sqlx::Result<u64> {
    let now = clock.now();
    let before = now - KEPT_FOR;
    let mut total = 0;
    for _ in 0..MAX_BATCHES {
        let deleted = [
            db::with_timeout(clock, store::delete_ended_sessions(db, before, BATCH_SIZE)).await?,
            db::with_timeout(clock, store::delete_revoked_device_keys(db, before, BATCH_SIZE)).await?,
            db::with_timeout(clock, store::delete_retired_signing_keys(db, before, BATCH_SIZE)).await?,
            db::with_timeout(clock, store::delete_past_attempts(db, now, BATCH_SIZE)).await?,
        ];
        total += deleted.iter().sum::<u64>();
        if deleted.iter().all(|&rows| rows < BATCH_SIZE.cast_unsigned()) {
            break;
        }
    }
    Ok(total)
}
