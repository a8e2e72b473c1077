//! E-mails: their states, and when they are tried again.

use rand::RngExt;
use std::time::Duration;

/// The state of an e-mail after an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MailState {
    /// It is tried again.
    Queued,
    /// The mail server accepted it.
    Sent,
    /// The mail server refused it for good.
    Bounced,
    /// No mail server accepted it within [`MAX_AGE`].
    Expired,
    /// The person has no address to which off sends, or got too many e-mails.
    Suppressed,
}

impl MailState {
    /// Its name in SQL and metrics.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Sent => "sent",
            Self::Bounced => "bounced",
            Self::Expired => "expired",
            Self::Suppressed => "suppressed",
        }
    }
}

/// An e-mail that was not accepted after this time expires. A letter is news, so two days are enough of the four to five
/// that RFC 5321 section 4.5.4.1 names.
pub(crate) const MAX_AGE: Duration = Duration::from_hours(48);

/// The pauses after the first attempts; the last one also follows all later attempts. Greylisting servers accept a second
/// attempt after some minutes.
const PAUSES: [Duration; 6] = [
    Duration::from_mins(1),
    Duration::from_mins(5),
    Duration::from_mins(15),
    Duration::from_hours(1),
    Duration::from_hours(4),
    Duration::from_hours(8),
];

/// How long to wait after this many attempts, with a jitter of a fifth either way.
pub(crate) fn retry_after(attempts: i32) -> Duration {
    let made = usize::try_from(attempts).unwrap_or_default().max(1);
    let pause = PAUSES[(made - 1).min(PAUSES.len() - 1)];
    pause.mul_f64(rand::rng().random_range(0.8..=1.2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_an_email_is_tried_some_ten_times() {
        let (mut elapsed, mut attempts) = (Duration::ZERO, 0);
        while elapsed < MAX_AGE {
            attempts += 1;
            let pause = retry_after(attempts);
            assert!(pause >= PAUSES[0].mul_f64(0.8) && pause <= PAUSES[5].mul_f64(1.2));
            elapsed += pause;
        }
        assert!((9..=13).contains(&attempts), "{attempts}");
    }
}
