//! The report of an import: what became of its records.

mod metrics;
pub(crate) mod table;

use crate::{correction::Correction, reject::RejectReason};
use chrono::{DateTime, Utc};
use std::collections::BTreeMap;

/// Counts of records: every record read was filtered out, was rejected, or became a product. It is displayed as a
/// table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Records read.
    pub read: u64,
    /// Filtered out: of another country, category or brand.
    pub filtered_out: u64,
    /// Became a product. A dry run does not count `new`, `updated`, `unchanged` and `withdrawn`.
    pub products: u64,
    /// Products that are new in the catalog.
    pub new: u64,
    /// Products that are newer than in the catalog.
    pub updated: u64,
    /// Products that are as new as in the catalog, or older.
    pub unchanged: u64,
    /// Products of the catalog that a rejected record marked as no longer sold.
    pub withdrawn: u64,
    /// When the most recently changed record changed, also if it was rejected or filtered out.
    pub newest: Option<DateTime<Utc>>,
    /// Rejected records, by reason.
    pub rejected: BTreeMap<RejectReason, Tally>,
    /// Corrections of records that became products. A record counts once for each kind of correction.
    pub corrected: BTreeMap<Correction, Tally>,
}

/// How often a reason or correction occurred, and where first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Records.
    pub count: u64,
    /// Line in the source, or number of the record in a source without lines; counted from 1.
    pub first: u64,
}

impl Tally {
    /// Counts an occurrence in `line`.
    pub(crate) fn add(&mut self, line: u64) {
        self.merge(Self { count: 1, first: line });
    }

    /// Adds the occurrences of another tally.
    pub(crate) fn merge(&mut self, other: Self) {
        self.first = if self.count == 0 { other.first } else { self.first.min(other.first) };
        self.count += other.count;
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
        self.read
            == [RejectReason::TooLong, RejectReason::NotJson, RejectReason::BadRow].into_iter().map(count).sum::<u64>()
    }

    /// Counts a rejected record in `line`.
    pub(crate) fn add_reject(&mut self, reason: RejectReason, line: u64) {
        self.rejected.entry(reason).or_default().add(line);
    }

    /// Counts a correction of the record in `line`.
    pub(crate) fn add_correction(&mut self, correction: Correction, line: u64) {
        self.corrected.entry(correction).or_default().add(line);
    }

    /// Products that were not written because it is a dry run.
    fn not_written(&self) -> u64 {
        self.products - self.new - self.updated - self.unchanged
    }
}
