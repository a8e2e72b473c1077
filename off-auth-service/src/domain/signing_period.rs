//! When a signing key is published, signs and is kept. A key has no state: each replica reads it off the clock.

use chrono::{DateTime, TimeDelta, Utc};

/// How long a key is published before it signs: longer than any verifier caches the published keys.
pub(crate) const PUBLISHED_BEFORE: TimeDelta = TimeDelta::hours(1);

/// After this time every verifier knows a published key: each fetches the keys every five minutes.
const KNOWN_AFTER: TimeDelta = TimeDelta::minutes(10);

/// How long a key signs.
const SIGNS_FOR: TimeDelta = TimeDelta::days(30);

/// How long a key stays published after it stopped signing: longer than a token is valid.
const KEPT_FOR: TimeDelta = TimeDelta::hours(1);

/// The next key is made this long before the last one stops signing.
const RENEWED_BEFORE: TimeDelta = TimeDelta::hours(2);

/// The maximum number of published keys, beyond which an operator can make no more.
pub(crate) const MAX_PUBLISHED_KEYS: usize = 8;

/// The times of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SigningPeriod {
    /// Also when it was published.
    pub(crate) created_at: DateTime<Utc>,
    pub(crate) signs_from: DateTime<Utc>,
    pub(crate) signs_until: DateTime<Utc>,
    /// When it leaves the published keys.
    pub(crate) retires_at: DateTime<Utc>,
}

/// What a key is for at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SigningState {
    /// Verifiers learn it.
    Published,
    /// May sign new tokens; of several, the one that began last does.
    Signing,
    /// Verifies the tokens that it signed.
    Kept,
    Retired,
}

impl SigningPeriod {
    /// Of a key that is made now and signs after `delay`.
    pub(crate) fn starting(now: DateTime<Utc>, delay: TimeDelta) -> Self {
        let signs_from = now + delay;
        let signs_until = signs_from + SIGNS_FOR;
        Self { created_at: now, signs_from, signs_until, retires_at: signs_until + KEPT_FOR }
    }

    pub(crate) fn state(&self, now: DateTime<Utc>) -> SigningState {
        if now >= self.retires_at {
            SigningState::Retired
        } else if now >= self.signs_until {
            SigningState::Kept
        } else if now >= self.signs_from {
            SigningState::Signing
        } else {
            SigningState::Published
        }
    }

    /// What to do for the keys with `periods`, so that there is always one that signs.
    pub(crate) fn next_step(periods: &[Self], now: DateTime<Utc>) -> NextStep {
        if periods.iter().any(|period| period.state(now) == SigningState::Signing) {
            let is_covered = periods.iter().any(|period| now + RENEWED_BEFORE < period.signs_until);
            return if is_covered { NextStep::Nothing } else { NextStep::Make(Self::starting(now, PUBLISHED_BEFORE)) };
        }
        let waiting = periods.iter().enumerate().filter(|(_, period)| period.state(now) == SigningState::Published);
        let known = waiting.filter(|(_, period)| period.created_at + KNOWN_AFTER <= now);
        match known.min_by_key(|(_, period)| period.created_at) {
            Some((index, period)) => {
                NextStep::Start(index, Self { created_at: period.created_at, ..Self::starting(now, TimeDelta::zero()) })
            }
            None => NextStep::Make(Self::starting(now, TimeDelta::zero())),
        }
    }
}

/// What to do, so that there is always a key that signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NextStep {
    Nothing,
    /// Let the key at this index sign now, before its time. It has this period then.
    Start(usize, SigningPeriod),
    /// Make a key with this period.
    Make(SigningPeriod),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_key_the_first_one_signs_at_once_and_the_next_ones_are_published_before() {
        let start = DateTime::UNIX_EPOCH;
        let NextStep::Make(first) = SigningPeriod::next_step(&[], start) else { panic!("no first key") };
        assert_eq!(first.state(start), SigningState::Signing);
        let (mut keys, mut now) = (vec![first], start);
        // For half a year there is always a key that signs, and each new one is published long enough before it signs.
        while now < start + TimeDelta::days(180) {
            match SigningPeriod::next_step(&keys, now) {
                NextStep::Nothing => {}
                NextStep::Make(key) if key.signs_from >= now + PUBLISHED_BEFORE => keys.push(key),
                step => panic!("{step:?}"),
            }
            assert!(keys.iter().any(|key| key.state(now) == SigningState::Signing), "{now}");
            now += TimeDelta::minutes(10);
        }
        assert_eq!(keys.len(), 7);
    }

    #[test]
    fn a_key_that_waits_signs_when_no_other_does_if_verifiers_know_it() {
        let start = DateTime::UNIX_EPOCH;
        let waiting =
            [0, 1].map(|minutes| SigningPeriod::starting(start + TimeDelta::minutes(minutes), TimeDelta::days(1)));
        let soon = start + KNOWN_AFTER - TimeDelta::seconds(1);
        assert_eq!(
            SigningPeriod::next_step(&waiting, soon),
            NextStep::Make(SigningPeriod::starting(soon, TimeDelta::zero()))
        );
        let later = start + TimeDelta::hours(1);
        let NextStep::Start(0, period) = SigningPeriod::next_step(&waiting, later) else { panic!("not the oldest") };
        assert_eq!((period.created_at, period.signs_from), (start, later));
        assert_eq!(period.signs_until - period.signs_from, SIGNS_FOR);
        assert_eq!(SigningPeriod::next_step(&[period, waiting[1]], later), NextStep::Nothing);
    }

    #[test]
    fn a_key_is_kept_for_the_tokens_that_it_signed() {
        let period = SigningPeriod::starting(DateTime::UNIX_EPOCH, PUBLISHED_BEFORE);
        assert_eq!(period.state(DateTime::UNIX_EPOCH), SigningState::Published);
        assert_eq!(period.state(period.signs_from), SigningState::Signing);
        assert_eq!(period.state(period.signs_until), SigningState::Kept);
        let life = off_kit::auth::TOKEN_LIFETIME + off_kit::auth::LEEWAY.to_std().unwrap();
        assert_eq!(period.state(period.signs_until + life), SigningState::Kept);
        assert_eq!(period.state(period.retires_at), SigningState::Retired);
    }
}
