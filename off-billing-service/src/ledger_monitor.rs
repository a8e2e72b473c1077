//! Compares the balances of accounts with their transfers, a part at a time.

use crate::store;
use metrics::{counter, gauge};
use off_kit::{Kit, db};
use sqlx::PgPool;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tracing::{error, warn};

/// How often some accounts are checked.
const POLL_INTERVAL: Duration = Duration::from_secs(10);

/// Accounts per check. An account with a hundred thousand transfers takes some 30 ms.
const ACCOUNTS: i64 = 100;

/// Starts a task that checks all accounts in rounds, until the service stops.
pub(crate) fn start(kit: &Kit, pool: &PgPool) {
    let (pool, clock, tasks) = (pool.clone(), kit.clock, kit.tasks.clone());
    let mismatches = Arc::<AtomicU64>::default();
    let warned = mismatches.clone();
    kit.readiness_checks.add_warning("ledger", move || {
        let count = warned.load(Ordering::Relaxed);
        (count > 0).then(|| format!("the balances of {count} accounts differ from their transfers: see `off audit`"))
    });
    kit.tasks.spawn("ledger monitor", async move {
        let mut polls = tasks.every(POLL_INTERVAL);
        // The account after which the next check starts, and the mismatches of this round so far.
        let (mut after, mut found) = (0, 0);
        while polls.tick().await {
            let checked = match db::with_timeout(clock, store::check_accounts(&pool, after, ACCOUNTS)).await {
                Ok(checked) => checked,
                Err(error) => {
                    warn!("checking balances failed, retrying at the next poll: {error}");
                    continue;
                }
            };
            counter!("off_ledger_checked_total").increment(checked.accounts);
            found += checked.mismatches.len() as u64;
            if !checked.mismatches.is_empty() {
                error!("the balances of these accounts differ from their transfers: {:?}", checked.mismatches);
            }
            if let Some(last) = checked.last {
                mismatches.fetch_max(found, Ordering::Relaxed);
                after = last;
            } else {
                mismatches.store(found, Ordering::Relaxed);
                (after, found) = (0, 0);
            }
            gauge!("off_ledger_mismatches").set(mismatches.load(Ordering::Relaxed) as f64);
        }
        Ok(())
    });
}
