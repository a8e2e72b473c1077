//! The limits of sign-in attempts: a generic cell rate algorithm (GCRA). The state of a limit is one time, at which all
//! attempts are available again.

use chrono::{DateTime, TimeDelta, Utc};
use quick_cache::unsync::Cache;
use ring::digest::{SHA256, digest};
use std::{
    fmt,
    sync::{Mutex, PoisonError},
};

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

    /// The state after an attempt; `Err` with the time until the next one if none is allowed now.
    fn take(self, full_at: Option<DateTime<Utc>>, now: DateTime<Utc>) -> Result<DateTime<Utc>, TimeDelta> {
        let full_at = full_at.unwrap_or(now).max(now);
        let latest = self.latest_full_at(now);
        if full_at > latest { Err(full_at - latest) } else { Ok(full_at + self.interval) }
    }
}

/// How many times as many attempts as from one network are allowed from all networks together. Whoever has one network
/// never exhausts them, so that wrong passwords from there do not keep the owner of the account out.
const NETWORKS: u16 = 10;

/// The limits of an account. An attempt needs both.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AttemptLimits {
    /// Of the attempts from one network.
    pub(crate) network: AttemptLimit,
    /// Of the attempts from all networks together.
    pub(crate) account: AttemptLimit,
}

/// The state of the limits of an account: when all attempts are available again.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FullAt<T> {
    pub(crate) network: T,
    pub(crate) account: T,
}

impl AttemptLimits {
    pub(crate) fn new(network: AttemptLimit) -> Self {
        let burst = network.burst.saturating_mul(NETWORKS.into());
        Self { network, account: AttemptLimit { burst, interval: network.interval / NETWORKS.into() } }
    }

    /// The state after an attempt; `Err` with the time until the next one if none is allowed now.
    fn take(
        self,
        full_at: FullAt<Option<DateTime<Utc>>>,
        now: DateTime<Utc>,
    ) -> Result<FullAt<DateTime<Utc>>, TimeDelta> {
        match (self.network.take(full_at.network, now), self.account.take(full_at.account, now)) {
            (Ok(network), Ok(account)) => Ok(FullAt { network, account }),
            (Err(wait), Ok(_)) | (Ok(_), Err(wait)) => Err(wait),
            (Err(of_network), Err(of_account)) => Err(of_network.max(of_account)),
        }
    }

    /// The time until an attempt is allowed; `None` if one is allowed now.
    pub(crate) fn time_to_wait(self, full_at: FullAt<Option<DateTime<Utc>>>, now: DateTime<Utc>) -> Option<TimeDelta> {
        self.take(full_at, now).err()
    }
}

/// A wait in whole seconds, at least one.
pub(crate) fn whole_seconds(wait: TimeDelta) -> u32 {
    let seconds = wait.num_milliseconds().max(0).cast_unsigned().div_ceil(1000).max(1);
    u32::try_from(seconds).unwrap_or(u32::MAX)
}

/// E-mail addresses without an account whose attempts are counted, and as many pairs of such an address and a network;
/// beyond that, some are forgotten.
const MAX_UNKNOWN: usize = 20_000;

/// Counts attempts with e-mail addresses that nobody has. Otherwise only an account could answer that there were too
/// many attempts, which would tell that it exists.
pub(crate) struct UnknownAttempts {
    limits: AttemptLimits,
    /// By a SHA-256, so that an entry has a fixed size: of the network and the address, and of the address.
    full_at: Mutex<FullAt<Cache<Vec<u8>, DateTime<Utc>>>>,
}

impl fmt::Debug for UnknownAttempts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UnknownAttempts").field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl UnknownAttempts {
    pub(crate) fn new(limits: AttemptLimits) -> Self {
        let full_at = FullAt { network: Cache::new(MAX_UNKNOWN), account: Cache::new(MAX_UNKNOWN) };
        Self { limits, full_at: Mutex::new(full_at) }
    }

    /// Counts an attempt; `Err` with the seconds to wait if it is not allowed.
    pub(crate) fn take(&self, address: &str, network: &str, now: DateTime<Utc>) -> Result<(), u32> {
        // A network contains no NUL.
        let of_network = sha256(&format!("{network}\0{address}"));
        let of_account = sha256(address);
        let mut known = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        let full_at = FullAt {
            network: known.network.get(&of_network).copied(),
            account: known.account.get(&of_account).copied(),
        };
        let taken = self.limits.take(full_at, now).map_err(whole_seconds)?;
        known.network.insert(of_network, taken.network);
        known.account.insert(of_account, taken.account);
        Ok(())
    }
}

fn sha256(text: &str) -> Vec<u8> {
    digest(&SHA256, text.as_bytes()).as_ref().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: AttemptLimit = AttemptLimit { burst: 3, interval: TimeDelta::seconds(30) };

    #[test]
    fn a_burst_is_allowed_and_then_one_attempt_in_each_interval() {
        let start = DateTime::UNIX_EPOCH;
        let mut full_at = None;
        for _ in 0..3 {
            full_at = Some(LIMIT.take(full_at, start).unwrap());
        }
        assert_eq!(LIMIT.take(full_at, start), Err(TimeDelta::seconds(30)));
        let soon = start + TimeDelta::milliseconds(28_500);
        assert_eq!(LIMIT.take(full_at, soon).map_err(whole_seconds), Err(2));
        let later = start + TimeDelta::seconds(30);
        full_at = Some(LIMIT.take(full_at, later).unwrap());
        assert!(LIMIT.take(full_at, later).is_err());
        let rested = later + TimeDelta::seconds(90);
        assert_eq!(LIMIT.take(full_at, rested), Ok(rested + LIMIT.interval));
    }

    #[test]
    fn unknown_addresses_have_the_same_limits_each() {
        let (unknown, now) = (UnknownAttempts::new(AttemptLimits::new(LIMIT)), DateTime::UNIX_EPOCH);
        let (nobody, noone) = ("nobody@example.org", "noone@example.org");
        for _ in 0..3 {
            unknown.take(nobody, "192.0.2.0", now).unwrap();
        }
        assert_eq!(unknown.take(nobody, "192.0.2.0", now), Err(30));
        assert_eq!(unknown.take(noone, "192.0.2.0", now), Ok(()));
        // Refused attempts count for nothing, so 27 of 30 are left.
        for attempt in 3..30 {
            unknown.take(nobody, &format!("192.0.2.{}", attempt / 3), now).unwrap();
        }
        assert_eq!(unknown.take(nobody, "192.0.2.99", now), Err(3));
        assert_eq!(unknown.take(nobody, "192.0.2.0", now), Err(30));
        assert_eq!(unknown.take(noone, "192.0.2.99", now), Ok(()));
    }
}
