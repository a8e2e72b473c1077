//! The report of an import.

use crate::{correction::Correction, product::Reject};
use chrono::{DateTime, Utc};
use comfy_table::{CellAlignment, Table, presets};
use metrics::counter;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt};

/// Counts of records: every record read was skipped by the filter, was rejected, or became a product.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Records read.
    pub read: u64,
    /// Skipped by the filter: another country, category or brand.
    pub passed_over: u64,
    /// Became a product. A dry run does not count `loaded`, `updated`, `unchanged` and `withdrawn`.
    pub products: u64,
    /// New in the catalog.
    pub loaded: u64,
    /// Newer than what the catalog had.
    pub updated: u64,
    /// As new as what the catalog had, or older.
    pub unchanged: u64,
    /// Known to the catalog, and marked by a rejected record as no longer sold.
    #[serde(default)]
    pub withdrawn: u64,
    /// When the most recently changed record changed, also if it was rejected or skipped.
    pub newest: Option<DateTime<Utc>>,
    /// Rejected records, by reason.
    pub rejected: BTreeMap<Reject, Tally>,
    /// Corrections of records that became products.
    pub corrected: BTreeMap<Correction, Tally>,
}

/// How often a reason or correction occurred, and where first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    pub count: u64,
    /// Line in the source, or number of the record in a source without lines; counted from 1.
    pub first: u64,
}

impl Tally {
    fn record(&mut self, line: u64) {
        if self.count == 0 {
            self.first = line;
        }
        self.count += 1;
    }
}

impl Report {
    /// Rejected records, for any reason.
    pub fn rejected_total(&self) -> u64 {
        self.rejected.values().map(|tally| tally.count).sum()
    }

    /// Whether none of the lines or rows could be read as a record.
    pub(crate) fn is_all_unreadable(&self) -> bool {
        let count = |reason| self.rejected.get(&reason).map_or(0, |tally: &Tally| tally.count);
        self.read == [Reject::TooLong, Reject::NotJson, Reject::BadRow].into_iter().map(count).sum::<u64>()
    }

    /// Counts a rejected record.
    pub(crate) fn record_reject(&mut self, reason: Reject, line: u64) {
        self.rejected.entry(reason).or_default().record(line);
    }

    /// Counts a correction in `line`.
    pub(crate) fn record_correction(&mut self, correction: Correction, line: u64) {
        self.corrected.entry(correction).or_default().record(line);
    }

    /// Adds the counts since `before` to the metrics of the process.
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
        for (correction, tally) in &self.corrected {
            let known = before.corrected.get(correction).map_or(0, |tally| tally.count);
            counter!("off_etl_corrections_total", "reason" => correction.to_string()).increment(tally.count - known);
        }
    }

    /// Products that were not written because it is a dry run.
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
            row("filtered out", self.passed_over, None);
        }
        row("products", self.products, None);
        // A dry run does not know these counts.
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
        if !self.corrected.is_empty() {
            row("corrected in products", self.corrected.values().map(|tally| tally.count).sum(), None);
            for (correction, tally) in &self.corrected {
                row(&format!("  {correction}"), tally.count, Some(tally.first));
            }
        }
        if let Some(counts) = table.column_mut(1) {
            counts.set_cell_alignment(CellAlignment::Right);
        }
        table.fmt(f)
    }
}
