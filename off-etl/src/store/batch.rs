//! What is merged in one transaction.

use crate::{product::Withdrawal, report::Report, source::Place, validation::Validated};
use chrono::{DateTime, Utc};

/// Records that are merged together, and the state of the import after them.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// In the order of the records.
    pub(crate) products: Vec<Validated>,
    /// Line, reason and barcode of rejected records; empty unless rejects are kept.
    pub(crate) rejects: Vec<(u64, String, Option<String>)>,
    /// Withdrawals by rejected records, whose products the catalog may have.
    pub(crate) withdrawals: Vec<Withdrawal>,
    /// Report of the whole import so far. The merge adds the counts that depend on the catalog.
    pub(crate) report: Report,
    /// Where the source continues after this batch.
    pub(crate) end: Place,
    /// Whether this is the last batch of the import.
    pub(crate) is_last: bool,
    /// Up to when the catalog has the changes of Open Food Facts after the last batch; `None` if unknown.
    pub(crate) fresh_until: Option<DateTime<Utc>>,
}

/// The stored state of an import: how far it is.
#[derive(Debug, Clone)]
pub(crate) struct Import {
    pub(super) id: i64,
    /// Where the source continues.
    pub(crate) place: Place,
    /// The report so far.
    pub(crate) report: Report,
}
