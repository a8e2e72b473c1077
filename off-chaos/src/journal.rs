//! Journal of what clients and devices sent and what they were told, and of what the mail server got: the outer side of
//! the reconciliation.

use off_events::{Barcode, Money, SsdId, UserId};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::RangeInclusive,
    sync::{Mutex, MutexGuard, PoisonError},
};
use tokio::time::Instant;
use uuid::Uuid;

/// Units of a product that a client orders or a device reports as consumed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) ssd_id: SsdId,
    pub(crate) barcode: Barcode,
    pub(crate) quantity: i64,
}

/// Money that a person pays in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Deposit {
    pub(crate) user: UserId,
    pub(crate) amount: Money,
}

/// Outcome of a request, as far as its sender knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome<T> {
    Accepted(T),
    Rejected(String),
    /// No response, or an inconclusive one: the request may have taken effect.
    Unknown,
}

/// From the first publish of a message until the broker acknowledged it.
pub(crate) type PublishWindow = RangeInclusive<Instant>;

/// Everything that clients and devices sent, and the e-mails that the mail server got.
#[derive(Debug, Default)]
pub(crate) struct Journal(Mutex<Entries>);

#[derive(Debug, Default)]
pub(crate) struct Entries {
    /// By their `Idempotency-Key`.
    pub(crate) orders: HashMap<String, (Request, Outcome<Uuid>)>,
    /// By the order: accepted if it is cancelled, rejected if it could not be.
    pub(crate) cancellations: HashMap<Uuid, Outcome<()>>,
    /// By their `Idempotency-Key`; accepted with their id.
    pub(crate) deposits: HashMap<String, (Deposit, Outcome<Uuid>)>,
    /// Consumption reports, by device and report id.
    pub(crate) reports: HashMap<(SsdId, String), (Request, Outcome<PublishWindow>)>,
    /// Poison messages, by the consumer that has to turn them into dead letters, and tag.
    pub(crate) poison: BTreeMap<(String, String), Poison>,
    /// Faults by which a stream may have lost unhandled messages.
    pub(crate) losses: Vec<Loss>,
    /// Consumers that were recreated or rolled back to an older state, and so read some messages again.
    pub(crate) recreated: BTreeSet<String>,
    /// Attempts to send each e-mail, by its `Message-ID`, oldest first.
    pub(crate) mails: BTreeMap<String, Vec<MailAttempt>>,
    /// Faults by which the notifications service may not know what became of an e-mail.
    pub(crate) mail_outages: Vec<RangeInclusive<Instant>>,
    /// When orders were accepted (201).
    pub(crate) accepted_at: Vec<Instant>,
    /// Responses that differ from an earlier response to the same request.
    pub(crate) contradictions: Vec<String>,
    /// Retries of requests.
    pub(crate) retries: u64,
    /// Orders that were not sent because too many requests were in flight.
    pub(crate) skipped: u64,
}

/// A message that no handler can process.
#[derive(Debug)]
pub(crate) struct Poison {
    pub(crate) subject: &'static str,
    pub(crate) published: PublishWindow,
}

/// An attempt to send an e-mail, as the mail server saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MailAttempt {
    /// The address of the recipient.
    pub(crate) to: String,
    /// When the mail server answered, or decided not to.
    pub(crate) at: Instant,
    pub(crate) answer: MailAnswer,
}

/// How the mail server answered an e-mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MailAnswer {
    /// It got the whole e-mail and answered 250.
    Accepted,
    /// The same, but so late that the sender may have given up.
    AcceptedLate,
    /// It got the whole e-mail and answered nothing.
    Silent,
    /// It did not get the whole e-mail.
    Incomplete,
    /// It answered 4xx.
    NotNow,
    /// It answered 5xx.
    Refused,
}

/// A fault that may have removed messages from a stream.
#[derive(Debug)]
pub(crate) struct Loss {
    pub(crate) stream: &'static str,
    /// Publish time of the oldest message that may be lost.
    pub(crate) since: Instant,
    /// Every message that the stream stored during this time may be lost.
    pub(crate) during: RangeInclusive<Instant>,
    /// Older messages that were unacknowledged when the fault began; `None` if the broker did not answer.
    pub(crate) unhandled: Option<u64>,
}

impl Loss {
    /// Whether a message with this publish window may be lost.
    fn covers(&self, window: &PublishWindow) -> bool {
        self.since <= *window.end() && window.start() <= self.during.end()
    }
}

impl Entries {
    /// Whether one of these streams may have lost a message with this publish window.
    pub(crate) fn may_have_lost(&self, streams: &[&str], window: &PublishWindow) -> bool {
        self.losses.iter().any(|loss| streams.contains(&loss.stream) && loss.covers(window))
    }

    /// Whether a stream may have lost anything.
    pub(crate) fn has_lost(&self, stream: &str) -> bool {
        self.losses.iter().any(|loss| loss.stream == stream)
    }

    /// Whether the notifications service may not have stored what became of an e-mail between these moments.
    pub(crate) fn may_hide_mail_outcome(&self, since: Instant, until: Option<Instant>) -> bool {
        self.mail_outages
            .iter()
            .any(|outage| since <= *outage.end() && until.is_none_or(|until| *outage.start() <= until))
    }

    /// Upper bound of how many of these messages `stream` may have lost.
    pub(crate) fn count_covered(&self, stream: &str, sent: &[&PublishWindow]) -> u64 {
        let losses = self.losses.iter().filter(|loss| loss.stream == stream);
        losses
            .map(|loss| {
                let covered = sent.iter().filter(|window| loss.covers(window));
                let (older, newer): (Vec<&&PublishWindow>, Vec<&&PublishWindow>) =
                    covered.partition(|window| window.end() < loss.during.start());
                let older = older.len() as u64;
                newer.len() as u64 + loss.unhandled.map_or(older, |unhandled| unhandled.min(older))
            })
            .sum()
    }
}

impl Journal {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
