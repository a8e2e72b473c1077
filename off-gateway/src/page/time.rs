//! Times as pages show them. A script of the page shows them in the zone of the browser.

use chrono::{DateTime, Utc};

/// Like `2026-11-30 20:15:03`, in UTC.
pub(super) fn to_second(at: &DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M:%S").to_string()
}

/// For the attribute `datetime`.
pub(super) fn machine(at: &DateTime<Utc>) -> String {
    at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
}

/// How long something took, like `34 ms`, `2.5 s` or `3 min 20 s`.
pub(super) fn duration(millis: i64) -> String {
    match millis {
        ..=999 => format!("{millis} ms"),
        1_000..=59_999 => format!("{}.{} s", millis / 1000, millis % 1000 / 100),
        60_000..=3_599_999 => format!("{} min {} s", millis / 60_000, millis % 60_000 / 1000),
        _ => format!("{} h {} min", millis / 3_600_000, millis % 3_600_000 / 60_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_the_unit_that_fits() {
        let texts = [0, 999, 1_000, 59_990, 60_000, 3_599_999, 3_600_000, 90_000_000].map(duration);
        let expected = ["0 ms", "999 ms", "1.0 s", "59.9 s", "1 min 0 s", "59 min 59 s", "1 h 0 min", "25 h 0 min"];
        assert_eq!(texts, expected);
    }
}
