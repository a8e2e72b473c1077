//! Reconciliation: compares the journal of clients and devices with Postgres and the streams.

mod cancellations;
mod dead_letters;
mod devices;
mod letters;
mod mails;
mod money;
mod orders;
#[cfg(test)]
mod tests;

use crate::{journal::Entries, store};
pub(crate) use dead_letters::check_replay;
use off_kit::{Bus, bus::dead_letters::DeadLetter};
use sqlx::PgPool;
use std::time::Duration;

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

/// Runs all checks that must pass once the system has drained. `pause` is the time from a refused or cancelled order to
/// the next `stock.low`.
pub(crate) async fn check_all(
    db: &PgPool,
    bus: &Bus,
    entries: &Entries,
    dead_letters: &[DeadLetter],
    pause: Duration,
) -> anyhow::Result<Vec<Verdict>> {
    let stored = orders::read_orders(db).await?;
    let deposits = money::check_deposits(db, entries).await?;
    let [deposits, balances] = money::check_balances(db, &stored, deposits).await?;
    Ok(vec![
        orders::check_answered(&stored, entries),
        orders::check_unrequested(&stored, entries, &orders::read_low_stock_ids(bus).await?),
        cancellations::check_cancellations(&stored, entries),
        deposits,
        balances,
        devices::check_reports(db, entries).await?,
        devices::check_shelves(db, pause).await?,
        letters::check_letters(db).await?,
        mails::check_mails(&store::read_mails(db).await?, entries),
        dead_letters::check_dead_letters(entries, dead_letters),
    ])
}
