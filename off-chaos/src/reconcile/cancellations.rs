//! Compares the cancelled orders in Postgres with the requests of clients.

use super::{Verdict, orders::StoredOrder};
use crate::journal::{Entries, Outcome};
use off_events::OrderStatus;
use std::collections::HashMap;
use uuid::Uuid;

/// An order is cancelled if its cancellation was answered with 200, not if it was answered with 409, and never without
/// a request.
pub(super) fn check_cancellations(orders: &HashMap<String, StoredOrder>, entries: &Entries) -> Verdict {
    let is_cancelled: HashMap<Uuid, bool> =
        orders.values().map(|order| (order.row.id, order.status == OrderStatus::Cancelled)).collect();
    let mut findings = Vec::new();
    let (mut cancelled, mut rejected) = (0, 0);
    for (id, outcome) in &entries.cancellations {
        let is_cancelled = is_cancelled.get(id).copied().unwrap_or_default();
        match outcome {
            Outcome::Accepted(()) if !is_cancelled => {
                findings.push(format!("the cancellation of order {id} was answered with 200, but it is not cancelled"));
            }
            Outcome::Rejected(reason) if is_cancelled => {
                findings.push(format!("the cancellation of order {id} was rejected, but it is cancelled: {reason}"));
            }
            Outcome::Rejected(reason) if !reason.starts_with("409") => {
                findings.push(format!("the cancellation of order {id} was rejected: {reason}"));
            }
            Outcome::Accepted(()) => cancelled += 1,
            Outcome::Rejected(_) => rejected += 1,
            Outcome::Unknown => {}
        }
    }
    let unasked = is_cancelled.iter().filter(|(id, cancelled)| **cancelled && !entries.cancellations.contains_key(*id));
    findings.extend(unasked.map(|(id, _)| format!("order {id} is cancelled, but nobody cancelled it")));
    let claim = format!(
        "each of {cancelled} orders whose cancellation was answered with 200 is cancelled, and none of {rejected} that \
         could not be"
    );
    Verdict::new("cancelled", claim, findings)
}
