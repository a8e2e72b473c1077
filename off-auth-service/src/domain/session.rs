//! Sessions of people: one for each sign-in, whatever it refreshes.

use chrono::{DateTime, TimeDelta, Utc};
use off_events::UserId;
use uuid::Uuid;

/// The maximum number of sessions of a person; a sign-in beyond it ends the one that was not refreshed for the longest.
pub(crate) const MAX_SESSIONS: i64 = 100;

/// How long sessions last.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SessionLimits {
    /// Without a refresh.
    pub(crate) idle: TimeDelta,
    /// In any case.
    pub(crate) max: TimeDelta,
    /// How long a refresh may be repeated with the same token.
    pub(crate) grace: TimeDelta,
}

impl SessionLimits {
    /// When a session that is refreshed `now` ends without another refresh.
    pub(crate) fn idle_until(&self, now: DateTime<Utc>, ends_at: DateTime<Utc>) -> DateTime<Utc> {
        (now + self.idle).min(ends_at)
    }
}

/// A session with what a refresh needs.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    pub(crate) id: Uuid,
    pub(crate) user_id: UserId,
    pub(crate) is_operator: bool,
    pub(crate) salt: Vec<u8>,
    /// How often it was refreshed.
    pub(crate) generation: i32,
    pub(crate) refreshed_at: DateTime<Utc>,
    /// When it ends without a refresh; not later than `ends_at`.
    pub(crate) idle_until: DateTime<Utc>,
    pub(crate) ends_at: DateTime<Utc>,
    pub(crate) is_revoked: bool,
}

/// What a genuine refresh token is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Judgement {
    /// It is the current one: the session gets the next generation.
    Current,
    /// It was the current one a moment ago: the client, or another tab of it, gets the same successor again.
    Repeated,
    /// Its successor has been in use for a while, so two parties hold tokens of the session: one of them stole it.
    Reused,
    /// The session has ended, or the token is of a generation that the database does not know, because it was restored
    /// from a backup.
    Ended,
}

impl Session {
    pub(crate) fn is_live(&self, now: DateTime<Utc>) -> bool {
        !self.is_revoked && now < self.idle_until
    }

    /// Judges a genuine token of this session by its generation.
    pub(crate) fn judge(&self, generation: i32, now: DateTime<Utc>, grace: TimeDelta) -> Judgement {
        if !self.is_live(now) || generation > self.generation {
            return Judgement::Ended;
        }
        match self.generation - generation {
            0 => Judgement::Current,
            1 if now - self.refreshed_at < grace => Judgement::Repeated,
            _ => Judgement::Reused,
        }
    }
}

/// A session as its person sees it.
#[derive(Debug)]
pub(crate) struct OwnSession {
    pub(crate) id: Uuid,
    pub(crate) created_at: DateTime<Utc>,
    pub(crate) refreshed_at: DateTime<Utc>,
    pub(crate) idle_until: DateTime<Utc>,
    pub(crate) ends_at: DateTime<Utc>,
    pub(crate) user_agent: String,
    pub(crate) address: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: TimeDelta = TimeDelta::seconds(60);

    fn session() -> Session {
        let start = DateTime::UNIX_EPOCH;
        Session {
            id: Uuid::nil(),
            user_id: UserId(1),
            is_operator: false,
            salt: Vec::new(),
            generation: 5,
            refreshed_at: start,
            idle_until: start + TimeDelta::days(30),
            ends_at: start + TimeDelta::days(180),
            is_revoked: false,
        }
    }

    #[test]
    fn only_the_last_token_may_be_repeated_and_only_for_a_moment() {
        let (session, start) = (session(), DateTime::UNIX_EPOCH);
        let judge = |generation, seconds| session.judge(generation, start + TimeDelta::seconds(seconds), GRACE);
        assert_eq!(judge(5, 0), Judgement::Current);
        assert_eq!(judge(5, 100_000), Judgement::Current);
        assert_eq!(judge(4, 59), Judgement::Repeated);
        assert_eq!(judge(4, 60), Judgement::Reused);
        assert_eq!(judge(3, 0), Judgement::Reused);
        assert_eq!(judge(6, 0), Judgement::Ended);
        // The clock of the replica that refreshed may be ahead.
        assert_eq!(judge(4, -5), Judgement::Repeated);
    }

    #[test]
    fn no_token_of_an_ended_session_is_worth_anything() {
        let late = DateTime::UNIX_EPOCH + TimeDelta::days(30);
        assert_eq!(session().judge(5, late, GRACE), Judgement::Ended);
        let revoked = Session { is_revoked: true, ..session() };
        assert_eq!(revoked.judge(3, DateTime::UNIX_EPOCH, GRACE), Judgement::Ended);
    }

    #[test]
    fn a_refresh_never_extends_a_session_beyond_its_end() {
        let limits = SessionLimits { idle: TimeDelta::days(30), max: TimeDelta::days(180), grace: GRACE };
        let start = DateTime::UNIX_EPOCH;
        let ends_at = start + limits.max;
        assert_eq!(limits.idle_until(start, ends_at), start + TimeDelta::days(30));
        assert_eq!(limits.idle_until(start + TimeDelta::days(170), ends_at), ends_at);
    }
}
