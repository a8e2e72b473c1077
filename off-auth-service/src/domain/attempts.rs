//! The limit of sign-in attempts: a generic cell rate algorithm (GCRA). Its state is one time, at which all attempts
//! are available again.

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
    pub(crate) fn take(self, full_at: Option<DateTime<Utc>>, now: DateTime<Utc>) -> Result<DateTime<Utc>, TimeDelta> {
        let full_at = full_at.unwrap_or(now).max(now);
        let latest = self.latest_full_at(now);
        if full_at > latest { Err(full_at - latest) } else { Ok(full_at + self.interval) }
    }

    /// The seconds until an attempt is allowed, at least one.
    pub(crate) fn seconds_to_wait(self, full_at: Option<DateTime<Utc>>, now: DateTime<Utc>) -> u32 {
        let wait = self.take(full_at, now).err().unwrap_or_default();
        let seconds = wait.num_milliseconds().max(0).cast_unsigned().div_ceil(1000).max(1);
        u32::try_from(seconds).unwrap_or(u32::MAX)
    }
}

/// E-mail addresses without an account whose attempts are counted; beyond that, some are forgotten.
const MAX_UNKNOWN: usize = 20_000;

/// Counts attempts with e-mail addresses that nobody has. Otherwise only an account could answer that there were too
/// many attempts, which would tell that it exists.
pub(crate) struct UnknownAttempts {
    limit: AttemptLimit,
    /// By the SHA-256 of the address, so that an entry has a fixed size.
    full_at: Mutex<Cache<Vec<u8>, DateTime<Utc>>>,
}

impl fmt::Debug for UnknownAttempts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UnknownAttempts").field("limit", &self.limit).finish_non_exhaustive()
    }
}

impl UnknownAttempts {
    pub(crate) fn new(limit: AttemptLimit) -> Self {
        Self { limit, full_at: Mutex::new(Cache::new(MAX_UNKNOWN)) }
    }

    /// Counts an attempt; `Err` with the seconds to wait if it is not allowed.
    pub(crate) fn take(&self, address: &str, now: DateTime<Utc>) -> Result<(), u32> {
        let id = digest(&SHA256, address.as_bytes()).as_ref().to_vec();
        let mut known = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        let full_at = known.get(&id).copied();
        let taken = self.limit.take(full_at, now).map_err(|_| self.limit.seconds_to_wait(full_at, now))?;
        known.insert(id, taken);
        Ok(())
    }
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
        assert_eq!(LIMIT.seconds_to_wait(full_at, soon), 2);
        let later = start + TimeDelta::seconds(30);
        full_at = Some(LIMIT.take(full_at, later).unwrap());
        assert!(LIMIT.take(full_at, later).is_err());
        let rested = later + TimeDelta::seconds(90);
        assert_eq!(LIMIT.take(full_at, rested), Ok(rested + LIMIT.interval));
    }

    #[test]
    fn unknown_addresses_have_the_same_limit_each() {
        let (unknown, now) = (UnknownAttempts::new(LIMIT), DateTime::UNIX_EPOCH);
        for _ in 0..3 {
            unknown.take("nobody@example.org", now).unwrap();
        }
        assert_eq!(unknown.take("nobody@example.org", now), Err(30));
        assert_eq!(unknown.take("noone@example.org", now), Ok(()));
    }
}
