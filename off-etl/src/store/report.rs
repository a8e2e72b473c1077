//! Reports as the column `catalog.imports.report` stores them. An import that is resumed reads what an older program
//! stored.

use crate::{
    correction::Correction,
    reject::RejectReason,
    report::{self, Tally},
};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The stored form of a [report](report::Report).
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Report {
    read: u64,
    #[serde(rename = "passed_over")]
    filtered_out: u64,
    products: u64,
    #[serde(rename = "loaded")]
    new: u64,
    updated: u64,
    unchanged: u64,
    /// The first programs did not store it.
    #[serde(default)]
    withdrawn: u64,
    newest: Option<DateTime<Utc>>,
    rejected: BTreeMap<RejectReason, StoredTally>,
    corrected: BTreeMap<Correction, StoredTally>,
}

/// The stored form of a [tally](Tally).
#[derive(Debug, Serialize, Deserialize)]
struct StoredTally {
    count: u64,
    first: u64,
}

impl From<&report::Report> for Report {
    fn from(report: &report::Report) -> Self {
        Self {
            read: report.read,
            filtered_out: report.filtered_out,
            products: report.products,
            new: report.new,
            updated: report.updated,
            unchanged: report.unchanged,
            withdrawn: report.withdrawn,
            newest: report.newest,
            rejected: report.rejected.iter().map(|(reason, tally)| (*reason, tally.into())).collect(),
            corrected: report.corrected.iter().map(|(correction, tally)| (*correction, tally.into())).collect(),
        }
    }
}

impl From<Report> for report::Report {
    fn from(stored: Report) -> Self {
        Self {
            read: stored.read,
            filtered_out: stored.filtered_out,
            products: stored.products,
            new: stored.new,
            updated: stored.updated,
            unchanged: stored.unchanged,
            withdrawn: stored.withdrawn,
            newest: stored.newest,
            rejected: stored.rejected.into_iter().map(|(reason, tally)| (reason, tally.into())).collect(),
            corrected: stored.corrected.into_iter().map(|(correction, tally)| (correction, tally.into())).collect(),
        }
    }
}

impl From<&Tally> for StoredTally {
    fn from(tally: &Tally) -> Self {
        Self { count: tally.count, first: tally.first }
    }
}

impl From<StoredTally> for Tally {
    fn from(stored: StoredTally) -> Self {
        Self { count: stored.count, first: stored.first }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// A report in which each count is another one.
    fn report() -> report::Report {
        let tally = |number: u64| Tally { count: number, first: number + 100 };
        let rejects = [
            RejectReason::TooLong,
            RejectReason::NotJson,
            RejectReason::BadRow,
            RejectReason::NoBarcode,
            RejectReason::NoName,
            RejectReason::NoQuantity,
            RejectReason::MissingState,
            RejectReason::NoPhoto,
            RejectReason::NovaGroup,
            RejectReason::NutriscoreScore,
            RejectReason::NutriscoreGrade,
        ];
        report::Report {
            read: 1,
            filtered_out: 2,
            products: 3,
            new: 4,
            updated: 5,
            unchanged: 6,
            withdrawn: 7,
            newest: DateTime::from_timestamp(1_700_000_000, 0),
            rejected: rejects.into_iter().zip((10..).map(tally)).collect(),
            corrected: Correction::ALL.into_iter().zip((30..).map(tally)).collect(),
        }
    }

    #[test]
    fn the_stored_form_of_a_report_is_stable() {
        let stored = json!({
            "read": 1,
            "passed_over": 2,
            "products": 3,
            "loaded": 4,
            "updated": 5,
            "unchanged": 6,
            "withdrawn": 7,
            "newest": "2023-11-14T22:13:20Z",
            "rejected": {
                "too-long": {"count": 10, "first": 110},
                "not-json": {"count": 11, "first": 111},
                "bad-row": {"count": 12, "first": 112},
                "no-barcode": {"count": 13, "first": 113},
                "no-name": {"count": 14, "first": 114},
                "no-quantity": {"count": 15, "first": 115},
                "missing-state": {"count": 16, "first": 116},
                "no-photo": {"count": 17, "first": 117},
                "nova-group": {"count": 18, "first": 118},
                "nutriscore-score": {"count": 19, "first": 119},
                "nutriscore-grade": {"count": 20, "first": 120},
            },
            "corrected": {
                "broken-utf8": {"count": 30, "first": 130},
                "half-surrogate": {"count": 31, "first": 131},
                "control-characters": {"count": 32, "first": 132},
                "html-entities": {"count": 33, "first": 133},
                "long-text": {"count": 34, "first": 134},
                "other-type": {"count": 35, "first": 135},
                "absurd-number": {"count": 36, "first": 136},
                "no-time": {"count": 37, "first": 137},
                "swapped-energy": {"count": 38, "first": 138},
                "other-amount": {"count": 39, "first": 139},
            },
        });
        assert_eq!(serde_json::to_value(Report::from(&report())).unwrap(), stored);
        let read: Report = serde_json::from_value(stored).unwrap();
        assert_eq!(report::Report::from(read), report());
    }

    #[test]
    fn a_report_of_the_first_programs_is_read() {
        let mut stored = serde_json::to_value(Report::from(&report())).unwrap();
        stored.as_object_mut().unwrap().remove("withdrawn");
        let read: Report = serde_json::from_value(stored).unwrap();
        assert_eq!(report::Report::from(read), report::Report { withdrawn: 0, ..report() });
    }
}
