//! Reports as tables for the terminal.

use super::{Report, Tally};
use comfy_table::{CellAlignment, Table, presets};
use std::fmt::{self, Display};

impl Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        of(self.rows()).fmt(f)
    }
}

/// What is counted, the count, and the first line where it occurred.
pub(crate) type Row = (String, u64, Option<u64>);

/// A table of these rows.
pub(crate) fn of(rows: Vec<Row>) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    for (name, count, first) in rows {
        let first = first.map(|line| format!("first in {line}")).unwrap_or_default();
        table.add_row([name, count.to_string(), first]);
    }
    if let Some(counts) = table.column_mut(1) {
        counts.set_cell_alignment(CellAlignment::Right);
    }
    table
}

impl Report {
    fn rows(&self) -> Vec<Row> {
        let row = |name: &str, count: u64| (name.to_owned(), count, None);
        let mut rows = vec![row("read", self.read)];
        if self.filtered_out > 0 {
            rows.push(row("filtered out", self.filtered_out));
        }
        rows.push(row("products", self.products));
        // A dry run does not know these counts.
        if self.new + self.updated + self.unchanged > 0 {
            rows.push(row("  new", self.new));
            rows.push(row("  updated", self.updated));
            rows.push(row("  unchanged", self.unchanged));
        }
        rows.push(row("rejected", self.rejected_total()));
        if self.withdrawn > 0 {
            rows.push(row("known products no longer sold", self.withdrawn));
        }
        rows.extend(self.rejected.iter().map(|(reason, tally)| tally_row(reason, tally)));
        if !self.corrected.is_empty() {
            rows.push(row("corrected in products", self.corrected.values().map(|tally| tally.count).sum()));
            rows.extend(self.corrected.iter().map(|(correction, tally)| tally_row(correction, tally)));
        }
        rows
    }
}

/// An indented row for a reason or a correction.
pub(crate) fn tally_row(what: &impl Display, tally: &Tally) -> Row {
    (format!("  {what}"), tally.count, Some(tally.first))
}
