//! The report of an import of prices: what became of the prices of an export, and what changed.

use super::{Price, PriceReject};
use crate::report::{Tally, table};
use chrono::{Months, NaiveDate};
use std::{
    collections::BTreeMap,
    fmt::{self, Display},
};

/// Counts of an import of prices. It is displayed as a table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PriceReport {
    /// Prices read.
    pub read: u64,
    /// Prices that medians are of.
    pub used: u64,
    /// Prices that are not used, by reason.
    pub rejected: BTreeMap<PriceReject, Tally>,
    /// What changed; `None` in a dry run.
    pub changes: Option<PriceChanges>,
}

/// Rows that an import of prices changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PriceChanges {
    /// Observed prices of a product and a currency that had none.
    pub new: u64,
    /// Observed prices that are other than before.
    pub updated: u64,
    /// Observed prices that are as before.
    pub unchanged: u64,
    /// Observed prices of products of the export that have no price in this currency any more.
    pub removed: u64,
    /// Products of the catalog whose list price changed.
    pub products: u64,
}

impl PriceReport {
    /// Prices that are not used, for any reason.
    pub fn rejected_total(&self) -> u64 {
        self.rejected.values().map(|tally| tally.count).sum()
    }
}

impl Display for PriceReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let row = |name: &str, count: u64| (name.to_owned(), count, None);
        let mut rows = vec![row("read", self.read), row("used", self.used), row("rejected", self.rejected_total())];
        rows.extend(self.rejected.iter().map(|(reason, tally)| table::tally_row(reason, tally)));
        if let Some(changes) = self.changes {
            let PriceChanges { new, updated, unchanged, removed, products } = changes;
            rows.push(row("observed prices", new + updated + unchanged));
            rows.extend([row("  new", new), row("  updated", updated), row("  unchanged", unchanged)]);
            rows.extend([row("no longer observed", removed), row("products with another price", products)]);
        }
        table::of(rows).fmt(f)
    }
}

/// Counts the prices of an export while they are read.
#[derive(Debug, Default)]
pub(super) struct PriceCounts {
    read: u64,
    rejected: BTreeMap<PriceReject, Tally>,
    /// The undiscounted prices of each day: which days are too old is known at the end only. It has at most some twenty
    /// thousand days, because none is before 1970.
    days: BTreeMap<NaiveDate, Tally>,
    newest: Option<NaiveDate>,
}

impl PriceCounts {
    /// Counts the price in `line`, or the reason why it is not valid.
    pub(super) fn add(&mut self, line: u64, outcome: &Result<Price, PriceReject>) {
        self.read += 1;
        let tally = match outcome {
            Ok(price) => {
                self.newest = self.newest.max(Some(price.date));
                if price.is_discounted {
                    self.rejected.entry(PriceReject::Discounted).or_default()
                } else {
                    self.days.entry(price.date).or_default()
                }
            }
            Err(reason) => self.rejected.entry(*reason).or_default(),
        };
        tally.add(line);
    }

    /// Prices read so far.
    pub(super) fn read(&self) -> u64 {
        self.read
    }

    /// The first day that is not too old: a year before the newest price. `None` if no price is valid.
    pub(super) fn first_day(&self) -> Option<NaiveDate> {
        self.newest?.checked_sub_months(Months::new(12))
    }

    /// The report, without what changed.
    pub(super) fn report(mut self) -> PriceReport {
        let recent = self.first_day().map(|first| self.days.split_off(&first)).unwrap_or_default();
        for old in self.days.into_values() {
            self.rejected.entry(PriceReject::TooOld).or_default().merge(old);
        }
        let used = recent.values().map(|tally| tally.count).sum();
        PriceReport { read: self.read, used, rejected: self.rejected, changes: None }
    }
}
