//! The result of an audit as lines of text.

use super::{
    Audit,
    finding::{Check, Finding},
    store::{Counts, MOST},
};
use off_kit::text::counted;
use serde::Serialize;
use utoipa::ToSchema;

/// Maximum number of findings that are listed per check.
const MAX_LISTED: usize = 10;

/// The result of one check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Line {
    /// What was checked.
    #[schema(value_type = String, example = "money")]
    pub check: Check,
    /// Whether the claim is true.
    pub is_true: bool,
    /// What must be true.
    pub claim: String,
    /// The first violations; the last text may say how many more there are.
    pub findings: Vec<String>,
}

impl Audit {
    /// What was read, as one line of text.
    pub fn read(&self) -> String {
        let Self { began_at, seconds, counts, events_read, .. } = self;
        format!(
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
        )
    }

    /// The result of each check.
    pub fn lines(&self) -> Vec<Line> {
        Check::ALL.into_iter().map(|check| self.line(check)).collect()
    }

    /// The verdict, as one line of text.
    pub fn verdict(&self) -> String {
        match self.findings.len() {
            0 => "every order is accounted for".to_owned(),
            findings => counted(findings, "finding"),
        }
    }

    fn line(&self, check: Check) -> Line {
        let found: Vec<&Finding> = self.findings.iter().filter(|finding| finding.check == check).collect();
        let mut findings: Vec<String> = found.iter().take(MAX_LISTED).map(|finding| finding.text.clone()).collect();
        if let Some(rest) = found.len().checked_sub(MAX_LISTED).filter(|&rest| rest > 0) {
            let or_more = if i64::try_from(found.len()).is_ok_and(|found| found >= MOST) { " or more" } else { "" };
            findings.push(format!("… and {rest}{or_more}"));
        }
        Line { check, is_true: found.is_empty(), claim: check.claim(&self.counts), findings }
    }
}

impl Check {
    /// The name for people.
    pub fn name(self) -> &'static str {
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

    fn claim(self, counts: &Counts) -> String {
        let text = match self {
            Self::Orders => "each is done, or the deadline of its next step has not passed",
            Self::History => "the statuses of each order are in chronological order",
            Self::Deliveries => "each belongs to one order that was shipped, and matches it",
            Self::Money => {
                return format!(
                    "each balance is the sum of its transfers, and all accounts add up to {} cents; each order is \
                     charged, earned or refunded as its status says",
                    counts.balances + counts.held + counts.revenue + counts.cash
                );
            }
            Self::Letters => "each letter about an order is true, and has the facts of the order",
            Self::Shelves => {
                "each item is what was delivered minus what was consumed, and `stock.low` is published when low"
            }
            Self::Outbox => return format!("no message is stalled; {} waiting", counted(counts.outbox, "message")),
            Self::Broker => "each published order is in Postgres, with the same person, quantity and price",
        };
        text.to_owned()
    }
}
