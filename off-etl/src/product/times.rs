//! When a record was changed and recomputed.

use crate::{
    correction::{Correction, Corrections},
    lenient::Lenient,
    record::Record,
};
use chrono::{DateTime, Utc};

/// The first second of the year 2100, in UNIX time.
const MAX_UNIX_TIME: i64 = 4_102_444_800;

/// When somebody last changed a record, if it states a plausible time.
pub(crate) fn changed(record: &Record) -> Option<DateTime<Utc>> {
    time(&record.last_modified_t)
}

/// The same, and 1970 if the record states no plausible time.
pub(super) fn last_modified(record: &Record, corrections: &mut Corrections) -> DateTime<Utc> {
    let changed = changed(record);
    match (changed, &record.last_modified_t) {
        (None, _) => corrections.add(Correction::NoTime),
        (Some(_), Lenient::Text(_)) => corrections.add(Correction::OtherType),
        _ => {}
    }
    changed.unwrap_or_default()
}

/// When a record was last recomputed; never before it was changed.
pub(super) fn last_updated(record: &Record, last_modified: DateTime<Utc>) -> DateTime<Utc> {
    last_modified.max(time(&record.last_updated_t).unwrap_or_default())
}

/// A time from its UNIX seconds; `None` if it is implausible.
fn time(value: &Lenient) -> Option<DateTime<Utc>> {
    // Times in milliseconds and other implausible times are ignored.
    let seconds = value.whole().filter(|seconds| (0..=MAX_UNIX_TIME).contains(seconds))?;
    DateTime::from_timestamp(seconds, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(fields: &str) -> Record {
        Record::read(format!("{{{fields}}}").as_bytes()).unwrap()
    }

    #[test]
    fn last_updated_is_never_before_last_modified() {
        let modified = DateTime::from_timestamp(1_700_000_000, 0).unwrap();
        let updated = |time: &str| last_updated(&record(&format!("\"last_updated_t\": {time}")), modified).timestamp();
        assert_eq!(updated("1700000001"), 1_700_000_001);
        for time in ["1600000000", "\"soon\"", "1700000000000", "null"] {
            assert_eq!(updated(time), 1_700_000_000, "{time}");
        }
    }

    #[test]
    fn an_implausible_time_is_ignored() {
        for time in ["1700000000000", "-5", "1e300", "\"soon\""] {
            let record = record(&format!("\"last_modified_t\": {time}"));
            assert_eq!(last_modified(&record, &mut Corrections::default()), DateTime::UNIX_EPOCH, "{time}");
        }
    }
}
