//! A report as metrics of the process.

use super::{Report, Tally};
use metrics::counter;

impl Report {
    /// Adds the counts since `before`, an earlier report of the same import, to the metrics of the process.
    pub(crate) fn count_since(&self, before: &Self) {
        let outcomes = [
            ("new", self.new - before.new),
            ("updated", self.updated - before.updated),
            ("unchanged", self.unchanged - before.unchanged),
            ("not written", self.not_written() - before.not_written()),
            ("filtered out", self.filtered_out - before.filtered_out),
        ];
        for (outcome, records) in outcomes {
            counter!("off_etl_records_total", "outcome" => outcome, "reason" => "").increment(records);
        }
        for (reason, tally) in &self.rejected {
            counter!("off_etl_records_total", "outcome" => "rejected", "reason" => reason.to_string())
                .increment(since(tally, before.rejected.get(reason)));
        }
        for (correction, tally) in &self.corrected {
            counter!("off_etl_corrections_total", "reason" => correction.to_string())
                .increment(since(tally, before.corrected.get(correction)));
        }
    }
}

fn since(tally: &Tally, before: Option<&Tally>) -> u64 {
    tally.count - before.map_or(0, |before| before.count)
}
