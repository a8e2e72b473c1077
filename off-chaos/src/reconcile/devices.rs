//! Compares what devices reported, and what is left on their shelves, with Postgres.

use super::Verdict;
use crate::{
    journal::{Entries, Outcome},
    store,
};
use off_events::{SsdId, streams};
use sqlx::PgPool;
use std::{collections::HashMap, time::Duration};

/// Every consumption report that the broker acknowledged is stored once, except reports that a fault may have removed.
pub(super) async fn check_reports(db: &PgPool, entries: &Entries) -> anyhow::Result<Verdict> {
    let rows = store::read_reports(db).await?;
    let mut stored: HashMap<(SsdId, String), (String, i64)> = HashMap::new();
    for row in rows {
        stored.insert((SsdId(row.ssd_id), row.id), (row.barcode, row.quantity.into()));
    }
    let mut findings = Vec::new();
    let (mut sent, mut lost) = (Vec::new(), 0);
    for ((ssd_id, id), (request, outcome)) in &entries.reports {
        let found = stored.remove(&(*ssd_id, id.clone()));
        if let Outcome::Accepted(window) = outcome {
            sent.push(window);
        }
        let problem = match (found, outcome) {
            (None, Outcome::Accepted(window)) if entries.may_have_lost(&[streams::STOCK.name], window) => {
                lost += 1;
                continue;
            }
            (None, Outcome::Accepted(_)) => "was acknowledged but is not stored",
            (Some((barcode, quantity)), _) if barcode != request.barcode.as_str() || quantity != request.quantity => {
                "is stored with another product or quantity"
            }
            _ => continue,
        };
        findings.push(format!("{id} of device {ssd_id} {problem}"));
    }
    findings.extend(stored.keys().map(|(ssd_id, id)| format!("{id} of device {ssd_id} was not sent")));
    let explained = entries.count_covered(streams::STOCK.name, &sent);
    if lost > explained {
        findings.push(format!("{lost} reports are missing, but faults in their stream explain at most {explained}"));
    }
    let acknowledged = sent.len();
    let claim = format!(
        "each of {acknowledged} reports that the broker acknowledged is stored once, whatever its timestamp, except \
         {lost} that the broker lost"
    );
    Ok(Verdict::new("reports", claim, findings))
}

/// Every `stock.low` led to an order, so no shelf item is low, except where that order was refused or cancelled.
pub(super) async fn check_shelves(db: &PgPool, pause: Duration) -> anyhow::Result<Verdict> {
    let (postponed, low): (Vec<_>, Vec<_>) =
        store::find_low_shelf_items(db, pause).await?.into_iter().partition(|row| row.is_postponed);
    let findings =
        low.iter().map(|row| format!("device {} has {} of {} and stays low", row.ssd_id, row.quantity, row.barcode));
    let claim = format!(
        "every stock.low led to an order, and no shelf item is low, except {} whose order was refused or cancelled",
        postponed.len()
    );
    Ok(Verdict::new("restocked", claim, findings.collect()))
}
