//! The limits of sign-in attempts: a generic cell rate algorithm (GCRA). The state of a limit is one time, at which all
//! attempts are available again.

use chrono::{DateTime, TimeDelta, Utc};
use off_kit::{email::Email, http::RequestSource};
use ring::digest::{SHA256, digest};

/// The network of clients whose address is unknown.
const UNKNOWN_NETWORK: &str = "unknown";

/// How many attempts are allowed at once, and after how long there is one more.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AttemptLimit {
    pub(crate) burst: u32,
    pub(crate) interval: TimeDelta,
}

impl AttemptLimit {
    /// An attempt is allowed if all attempts are available again at this time or before.
    pub(crate) fn latest_full_at(self, now: DateTime<Utc>) -> DateTime<Utc> {
        let others = i32::try_from(self.burst.saturating_sub(1)).unwrap_or(i32::MAX);
        now + self.interval * others
    }

    /// The time until an attempt is allowed; `None` if one is allowed now.
    fn time_to_wait(self, full_at: Option<DateTime<Utc>>, now: DateTime<Utc>) -> Option<TimeDelta> {
        Some(full_at? - self.latest_full_at(now)).filter(|wait| *wait > TimeDelta::zero())
    }
}

/// How many times as many attempts as from one network are allowed from all networks together. Whoever has one network
/// never exhausts them, so that wrong passwords from there do not keep the owner of the account out.
const NETWORKS: u16 = 10;

/// The limits of an e-mail address. An attempt needs both.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AttemptLimits {
    /// Of the attempts from one network.
    pub(crate) network: AttemptLimit,
    /// Of the attempts from all networks together.
    pub(crate) all: AttemptLimit,
}

/// The state of the limits of an e-mail address: when all attempts are available again; `None` if they are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FullAt {
    pub(crate) network: Option<DateTime<Utc>>,
    pub(crate) all: Option<DateTime<Utc>>,
}

impl AttemptLimits {
    pub(crate) fn new(network: AttemptLimit) -> Self {
        let burst = network.burst.saturating_mul(NETWORKS.into());
        Self { network, all: AttemptLimit { burst, interval: network.interval / NETWORKS.into() } }
    }

    /// The time until an attempt is allowed; `None` if one is allowed now.
    pub(crate) fn time_to_wait(self, full_at: FullAt, now: DateTime<Utc>) -> Option<TimeDelta> {
        self.network.time_to_wait(full_at.network, now).max(self.all.time_to_wait(full_at.all, now))
    }
}

/// A wait in whole seconds, at least one.
pub(crate) fn whole_seconds(wait: TimeDelta) -> u32 {
    let seconds = wait.num_milliseconds().max(0).cast_unsigned().div_ceil(1000).max(1);
    u32::try_from(seconds).unwrap_or(u32::MAX)
}

/// What an attempt is counted by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AttemptKey {
    /// Of the e-mail address, so that a key has a fixed size and is no personal data.
    pub(crate) email_sha256: Vec<u8>,
    /// The network of the client; never empty.
    pub(crate) network: String,
}

impl AttemptKey {
    /// `email` is a [`normal_email`].
    pub(crate) fn new(email: &str, source: &RequestSource) -> Self {
        let network = Some(source.network()).filter(|network| !network.is_empty());
        Self {
            email_sha256: digest(&SHA256, email.as_bytes()).as_ref().to_vec(),
            network: network.unwrap_or_else(|| UNKNOWN_NETWORK.to_owned()),
        }
    }
}

/// The normal form of an e-mail address; the text itself if it is none.
pub(crate) fn normal_email(text: &str) -> String {
    Email::parse(text).map_or_else(|_| text.to_owned(), |email| email.as_str().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: AttemptLimit = AttemptLimit { burst: 3, interval: TimeDelta::seconds(30) };

    #[test]
    fn an_attempt_waits_while_more_than_the_burst_is_used() {
        let now = DateTime::UNIX_EPOCH;
        let wait = |seconds: i64| LIMIT.time_to_wait(Some(now + TimeDelta::milliseconds(seconds * 1000 + 500)), now);
        assert_eq!(LIMIT.time_to_wait(None, now), None);
        assert_eq!(LIMIT.time_to_wait(Some(now + LIMIT.interval * 2), now), None);
        assert_eq!((wait(-100), wait(59)), (None, None));
        assert_eq!((wait(60).map(whole_seconds), wait(89).map(whole_seconds)), (Some(1), Some(30)));
    }

    #[test]
    fn the_longer_wait_of_both_limits_counts() {
        let (limits, now) = (AttemptLimits::new(LIMIT), DateTime::UNIX_EPOCH);
        let wait = |network, all| {
            let at = |seconds| Some(now + TimeDelta::seconds(seconds));
            limits.time_to_wait(FullAt { network: at(network), all: at(all) }, now).map(whole_seconds)
        };
        // Of 30 attempts, 29 take 87 s.
        assert_eq!([wait(60, 87), wait(61, 87), wait(60, 89), wait(61, 89)], [None, Some(1), Some(2), Some(2)]);
    }

    #[test]
    fn every_spelling_of_an_address_has_one_key_and_an_unknown_network_is_a_network() {
        let key = |email: &str, address: &str| {
            let source = RequestSource { address: address.to_owned(), ..RequestSource::default() };
            AttemptKey::new(&normal_email(email), &source)
        };
        assert_eq!(key(" Ada@EXAMPLE.org", "192.0.2.7"), key("ada@example.org", "192.0.2.7"));
        assert_ne!(key("ada@example.org", "192.0.2.7"), key("bob@example.org", "192.0.2.7"));
        assert_ne!(key("no address", ""), key("No address", ""));
        assert_eq!(key("\0", "").network, "unknown");
    }
}
