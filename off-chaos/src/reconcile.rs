//! Reconciliation: compares the journal of clients and devices with Postgres and the streams.

mod devices;
mod letters;
mod orders;
#[cfg(test)]
mod tests;

use crate::journal::Entries;
pub(crate) use letters::check_replay;
use off_kit::{Bus, bus::dead_letters::DeadLetter};
use sqlx::PgPool;

/// Result of one check: what must be true, and the findings that contradict it.
#[derive(Debug)]
pub(crate) struct Verdict {
    pub(crate) name: &'static str,
    pub(crate) claim: String,
    pub(crate) findings: Vec<String>,
}

impl Verdict {
    pub(crate) fn new(name: &'static str, claim: impl Into<String>, findings: Vec<String>) -> Self {
        Self { name, claim: claim.into(), findings }
    }
}

/// Runs all checks that must pass once the system has drained.
pub(crate) async fn check_all(
    db: &PgPool,
    bus: &Bus,
    entries: &Entries,
    letters: &[DeadLetter],
) -> anyhow::Result<Vec<Verdict>> {
    let stored = orders::read_orders(db).await?;
    Ok(vec![
        orders::check_answered(&stored, entries),
        orders::check_unrequested(&stored, entries, &orders::read_low_stock_ids(bus).await?),
        devices::check_reports(db, entries).await?,
        devices::check_shelves(db).await?,
        letters::check_letters(entries, letters),
    ])
}
