//! What an import came to.

use crate::product::Reject;
use comfy_table::{CellAlignment, Table, presets};
use metrics::counter;
use std::{collections::BTreeMap, fmt, ops::AddAssign};

/// Counts of records: every record read is in exactly one of the others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    pub read: u64,
    /// New in the catalogue.
    pub loaded: u64,
    /// Newer than what the catalogue had.
    pub updated: u64,
    /// As new as what the catalogue had, or older.
    pub unchanged: u64,
    pub rejected: BTreeMap<Reject, u64>,
}

impl Report {
    pub fn rejected_total(&self) -> u64 {
        self.rejected.values().sum()
    }

    /// Adds it to the metrics of the process.
    pub(crate) fn count(&self) {
        for (outcome, records) in [("loaded", self.loaded), ("updated", self.updated), ("unchanged", self.unchanged)] {
            counter!("off_etl_records_total", "outcome" => outcome, "reason" => "").increment(records);
        }
        for (reason, records) in &self.rejected {
            counter!("off_etl_records_total", "outcome" => "rejected", "reason" => reason.to_string())
                .increment(*records);
        }
    }

    /// Notes a record that is no product for the catalogue.
    pub(crate) fn reject(&mut self, reason: Reject) {
        *self.rejected.entry(reason).or_default() += 1;
    }
}

impl AddAssign for Report {
    fn add_assign(&mut self, more: Self) {
        self.read += more.read;
        self.loaded += more.loaded;
        self.updated += more.updated;
        self.unchanged += more.unchanged;
        for (reason, count) in more.rejected {
            *self.rejected.entry(reason).or_default() += count;
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        let rows =
            [("read", self.read), ("loaded", self.loaded), ("updated", self.updated), ("unchanged", self.unchanged)];
        for (name, count) in rows {
            table.add_row([name.to_owned(), count.to_string()]);
        }
        table.add_row(["rejected".to_owned(), self.rejected_total().to_string()]);
        for (reason, count) in &self.rejected {
            table.add_row([format!("  {reason}"), count.to_string()]);
        }
        if let Some(counts) = table.column_mut(1) {
            counts.set_cell_alignment(CellAlignment::Right);
        }
        table.fmt(f)
    }
}
