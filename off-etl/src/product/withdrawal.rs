//! Records that mark a product as no longer sold.

use super::{
    barcode::barcode,
    times::{changed, last_updated},
};
use crate::record::Record;
use chrono::{DateTime, Utc};
use off_events::Barcode;

/// A record that marks a product as no longer sold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Withdrawal {
    pub(crate) barcode: Barcode,
    pub(crate) last_modified: DateTime<Utc>,
    pub(crate) last_updated: DateTime<Utc>,
}

impl Withdrawal {
    /// The withdrawal by `record`, which may itself be rejected. `None` if it is not marked obsolete, or has no valid
    /// barcode or time.
    pub(crate) fn of(record: &Record) -> Option<Self> {
        let barcode = barcode(&record.code)?;
        let last_modified = changed(record)?;
        let last_updated = last_updated(record, last_modified);
        record.obsolete.is_yes().then_some(Self { barcode, last_modified, last_updated })
    }
}
