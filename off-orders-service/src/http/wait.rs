//! How long a request asks to wait for its order: `?wait=5s`, or the header `Prefer: wait=5` (RFC 7240).

use crate::long_polls::MAX_TIME;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use off_events::InvalidValue;
use serde::Deserialize;
use std::time::Duration;

const PREFER: HeaderName = HeaderName::from_static("prefer");
const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// The time in the query: whole seconds, or a duration like `500ms`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct WaitTime(Duration);

impl TryFrom<String> for WaitTime {
    type Error = InvalidValue;

    fn try_from(text: String) -> Result<Self, InvalidValue> {
        let time = text.parse().map(Duration::from_secs).or_else(|_| humantime::parse_duration(&text));
        let time = time.ok().filter(|time| !time.is_zero() && *time <= MAX_TIME);
        time.map(Self).ok_or(InvalidValue("a wait is a time like 5s or 500ms, or whole seconds, up to 5s"))
    }
}

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wait {
    /// In the query.
    Required(Duration),
    /// In a header that the service may ignore: a longer time was shortened to the longest.
    Preferred(Duration),
}

impl Wait {
    /// The wait that a request asks for. The query takes precedence.
    pub(super) fn of(query: Option<WaitTime>, headers: &HeaderMap) -> Option<Self> {
        query.map(|WaitTime(time)| Self::Required(time)).or_else(|| preferred(headers).map(Self::Preferred))
    }

    pub(super) fn time(self) -> Duration {
        match self {
            Self::Required(time) | Self::Preferred(time) => time,
        }
    }

    /// The header that says that the preference was honored.
    pub(super) fn applied(self) -> Option<(HeaderName, HeaderValue)> {
        let Self::Preferred(time) = self else { return None };
        let value = HeaderValue::try_from(format!("wait={}", time.as_secs())).ok()?;
        Some((PREFERENCE_APPLIED, value))
    }
}

/// The preference `wait`, in whole seconds. The first one counts. One that is invalid is ignored, like an unknown
/// preference.
fn preferred(headers: &HeaderMap) -> Option<Duration> {
    let lines = headers.get_all(PREFER).iter().filter_map(|value| value.to_str().ok());
    let preferences = lines.flat_map(|line| line.split(',')).filter_map(|preference| preference.split(';').next());
    let mut named = preferences.filter_map(|preference| preference.split_once('='));
    let (_, value) = named.find(|(name, _)| name.trim().eq_ignore_ascii_case("wait"))?;
    let seconds = value.trim().trim_matches('"').parse().ok().filter(|seconds| *seconds > 0)?;
    Some(Duration::from_secs(seconds).min(MAX_TIME))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_of_the_query_is_a_duration_or_whole_seconds() {
        let read = |text: &str| WaitTime::try_from(text.to_owned()).ok().map(|WaitTime(time)| time);
        for (text, millis) in [("5s", 5000), ("5", 5000), ("500ms", 500), ("1s 500ms", 1500)] {
            assert_eq!(read(text), Some(Duration::from_millis(millis)), "{text}");
        }
        for wrong in ["", "0", "0s", "6", "5001ms", "1m", "-1", "1.5", "soon", "99999999999999999999", "s"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_first_preference_counts_and_is_shortened() {
        let read = |lines: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(PREFER, HeaderValue::from_static(line));
            }
            preferred(&headers).map(|time| time.as_secs())
        };
        assert_eq!(read(&["wait=3"]), Some(3));
        assert_eq!(read(&["respond-async, Wait = \"4\"; foo=bar"]), Some(4));
        assert_eq!(read(&["respond-async", "wait=2, wait=1"]), Some(2));
        assert_eq!(read(&["wait=60"]), Some(5));
        for ignored in ["", "wait", "wait=0", "wait=5s", "wait=-1", "waiting=1", "respond-async"] {
            assert_eq!(read(&[ignored]), None, "{ignored}");
        }
    }
}
