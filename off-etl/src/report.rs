//! What an import came to.

use crate::{mend::Mend, product::Reject};
use chrono::{DateTime, Utc};
use comfy_table::{CellAlignment, Table, presets};
use metrics::counter;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt};

/// Counts of records: every record read is passed over, rejected, or became a product.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    pub read: u64,
    /// Not asked for: another country, category or brand.
    pub passed_over: u64,
    /// Became a product; this alone counts where nothing is written.
    pub products: u64,
    /// New in the catalogue.
    pub loaded: u64,
    /// Newer than what the catalogue had.
    pub updated: u64,
    /// As new as what the catalogue had, or older.
    pub unchanged: u64,
    /// Known to the catalogue, and marked by a rejected record as no longer sold.
    #[serde(default)]
    pub withdrawn: u64,
    /// When that record changed that changed last, whatever became of it.
    pub newest: Option<DateTime<Utc>>,
    pub rejected: BTreeMap<Reject, Tally>,
    /// What was put right in records that became products.
    pub mended: BTreeMap<Mend, Tally>,
}

/// How often something was found, and where first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    pub count: u64,
    /// The line of the source, or the number of the record where there are no lines; the first is 1.
    pub first: u64,
}

impl Tally {
    fn note(&mut self, line: u64) {
        if self.count == 0 {
            self.first = line;
        }
        self.count += 1;
    }
}

impl Report {
    pub fn rejected_total(&self) -> u64 {
        self.rejected.values().map(|tally| tally.count).sum()
    }

    /// Whether nothing was read that is a record at all.
    pub(crate) fn is_all_unreadable(&self) -> bool {
        let count = |reason| self.rejected.get(&reason).map_or(0, |tally: &Tally| tally.count);
        self.read == [Reject::TooLong, Reject::NotJson, Reject::BadRow].into_iter().map(count).sum::<u64>()
    }

    /// Notes that the record in `line` is no product for the catalogue.
    pub(crate) fn reject(&mut self, reason: Reject, line: u64) {
        self.rejected.entry(reason).or_default().note(line);
    }

    /// Notes that something was put right in `line`.
    pub(crate) fn mend(&mut self, mend: Mend, line: u64) {
        self.mended.entry(mend).or_default().note(line);
    }

    /// Adds what has been counted since `before` to the metrics of the process.
    pub(crate) fn count_since(&self, before: &Self) {
        let outcomes = [
            ("loaded", self.loaded - before.loaded),
            ("updated", self.updated - before.updated),
            ("unchanged", self.unchanged - before.unchanged),
            ("not written", self.not_written() - before.not_written()),
            ("passed over", self.passed_over - before.passed_over),
        ];
        for (outcome, records) in outcomes {
            counter!("off_etl_records_total", "outcome" => outcome, "reason" => "").increment(records);
        }
        for (reason, tally) in &self.rejected {
            let known = before.rejected.get(reason).map_or(0, |tally| tally.count);
            counter!("off_etl_records_total", "outcome" => "rejected", "reason" => reason.to_string())
                .increment(tally.count - known);
        }
        for (mend, tally) in &self.mended {
            let known = before.mended.get(mend).map_or(0, |tally| tally.count);
            counter!("off_etl_mends_total", "reason" => mend.to_string()).increment(tally.count - known);
        }
    }

    /// Products of a dry run.
    fn not_written(&self) -> u64 {
        self.products - self.loaded - self.updated - self.unchanged
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        let mut row = |name: &str, count: u64, first: Option<u64>| {
            let first = first.map(|line| format!("first in {line}")).unwrap_or_default();
            table.add_row([name.to_owned(), count.to_string(), first]);
        };
        row("read", self.read, None);
        if self.passed_over > 0 {
            row("not asked for", self.passed_over, None);
        }
        row("products", self.products, None);
        // A dry run knows no more.
        if self.loaded + self.updated + self.unchanged > 0 {
            for (name, count) in [("loaded", self.loaded), ("updated", self.updated), ("unchanged", self.unchanged)] {
                row(&format!("  {name}"), count, None);
            }
        }
        row("rejected", self.rejected_total(), None);
        if self.withdrawn > 0 {
            row("known products no longer sold", self.withdrawn, None);
        }
        for (reason, tally) in &self.rejected {
            row(&format!("  {reason}"), tally.count, Some(tally.first));
        }
        if !self.mended.is_empty() {
            row("put right in products", self.mended.values().map(|tally| tally.count).sum(), None);
            for (mend, tally) in &self.mended {
                row(&format!("  {mend}"), tally.count, Some(tally.first));
            }
        }
        if let Some(counts) = table.column_mut(1) {
            counts.set_cell_alignment(CellAlignment::Right);
        }
        table.fmt(f)
    }
}
