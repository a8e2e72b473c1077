//! Prints the result of an audit as text.

use super::{
    Audit,
    broker::BrokerContents,
    finding::{Check, Finding},
    store::{Counts, MOST},
};
use crate::report::{check, counted};
use off_kit::print_line;
use std::{collections::BTreeSet, time::Duration};

/// Maximum number of findings that are listed per check.
const MAX_LISTED: usize = 10;

/// Prints `audit`; for a stopped system also that deadlines are compared with `patience` before it stopped.
pub(super) fn print(audit: &Audit, patience: Duration) {
    let Audit { as_of, counts, broker, findings, .. } = audit;
    print_read(audit);
    if let Some(as_of) = as_of {
        let as_of = as_of.format("%Y-%m-%d %H:%M:%S");
        let patience = humantime::format_duration(patience);
        print_line!("off is not running: deadlines are compared with {as_of} UTC, {patience} before it stopped");
    }
    print_checks(counts, findings);
    print_broker(broker);
    if findings.is_empty() {
        print_line!("\nevery order is accounted for");
    } else {
        print_line!("\n{}, see ✗ above", counted(findings.len(), "finding"));
    }
}

/// Prints what was read.
fn print_read(audit: &Audit) {
    let Audit { began_at, seconds, counts, events_read, .. } = audit;
    print_line!(
        "read {} ({} pending, {} paid, {} shipped, {} completed, {} refused, {} cancelled), \
         {}, {}, {}, {}, {}, {}, {}, {} and {} of the broker in {seconds:.1} s, as of {} UTC",
        counted(counts.orders(), "order"),
        counts.pending,
        counts.paid,
        counts.shipped,
        counts.completed,
        counts.refused,
        counts.cancelled,
        counted(counts.accounts, "account"),
        counted(counts.transfers, "transfer"),
        counted(counts.refusals, "refusal"),
        counted(counts.letters, "letter"),
        counted(counts.deliveries, "delivery"),
        counted(counts.consumptions, "consumption"),
        counted(counts.shelf_items, "shelf item"),
        counted(counts.outbox, "outbox message"),
        counted(*events_read, "message"),
        began_at.format("%Y-%m-%d %H:%M:%S")
    );
}

/// Prints each check with its first findings.
fn print_checks(counts: &Counts, findings: &BTreeSet<Finding>) {
    for (which, claim) in [
        (Check::Orders, "each is done, or the deadline of its next step has not passed".to_owned()),
        (Check::History, "the statuses of each order are in chronological order".to_owned()),
        (Check::Deliveries, "each belongs to one order that was shipped, and matches it".to_owned()),
        (
            Check::Money,
            format!(
                "each balance is the sum of its transfers, and all accounts add up to {} cents; each order is charged, earned \
                 or refunded as its status says",
                counts.balances + counts.held + counts.revenue + counts.cash
            ),
        ),
        (Check::Letters, "each letter about an order is true, and has the facts of the order".to_owned()),
        (
            Check::Shelves,
            "each item is what was delivered minus what was consumed, and `stock.low` is published when low".to_owned(),
        ),
        (Check::Outbox, format!("no message is stalled; {} waiting", counted(counts.outbox, "message"))),
        (Check::Broker, "each published order is in Postgres, with the same person, quantity and price".to_owned()),
    ] {
        let found = findings.iter().filter(|finding| finding.check == which).collect::<Vec<_>>();
        print_line!("{}", check(found.is_empty().into(), which.name(), &claim));
        for finding in found.iter().take(MAX_LISTED) {
            print_line!("    {}", finding.text);
        }
        if let Some(rest) = found.len().checked_sub(MAX_LISTED).filter(|&rest| rest > 0) {
            let or_more = if i64::try_from(found.len()).is_ok_and(|found| found >= MOST) { " or more" } else { "" };
            print_line!("    … and {rest}{or_more}");
        }
    }
}

fn print_broker(broker: &BrokerContents) {
    print_line!("\nContents of the broker (not used as proof):");
    for stream in &broker.streams {
        print_line!(
            "  stream   {:<18}{:>10} messages {:>8} MiB",
            stream.name,
            stream.messages,
            stream.bytes / 1024 / 1024
        );
    }
    for consumer in &broker.consumers {
        let (name, pending, unacknowledged) = (consumer.name, consumer.pending, consumer.unacknowledged);
        print_line!("  consumer {name:<19}{pending:>9} pending  {unacknowledged:>8} unacknowledged");
    }
    print_line!(
        "  {} waiting for the supplier, {} for the delivery",
        counted(broker.waiting_for_supplier, "order"),
        broker.waiting_for_delivery
    );
    if broker.dead_letters > 0 {
        print_line!("  {}: `off dead list` shows them", counted(broker.dead_letters, "dead letter"));
    }
}

impl Check {
    fn name(self) -> &'static str {
        match self {
            Self::Orders => "orders",
            Self::History => "history",
            Self::Deliveries => "deliveries",
            Self::Money => "money",
            Self::Letters => "letters",
            Self::Shelves => "shelves",
            Self::Outbox => "outbox",
            Self::Broker => "broker",
        }
    }
}
