//! What people and devices know of what they sent: the other side of the reconciliation.

use off_events::{Barcode, SsdId};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::RangeInclusive,
    sync::{Mutex, MutexGuard, PoisonError},
};
use tokio::time::Instant;
use uuid::Uuid;

/// What someone wanted to have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wish {
    pub(super) ssd_id: SsdId,
    pub(super) barcode: Barcode,
    pub(super) quantity: i64,
}

/// What came of it, as far as whoever sent it knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome<T> {
    Accepted(T),
    Refused(String),
    /// No answer, or one that does not say: it may have happened.
    Unknown,
}

/// From when a message was first sent until the broker acknowledged it.
pub(super) type Sending = RangeInclusive<Instant>;

/// Everything that was sent.
#[derive(Debug, Default)]
pub(super) struct Journal(Mutex<Pages>);

#[derive(Debug, Default)]
pub(super) struct Pages {
    /// By their `Idempotency-Key`.
    pub(super) orders: HashMap<String, (Wish, Outcome<Uuid>)>,
    /// What devices reported as taken, by device and report.
    pub(super) reports: HashMap<(SsdId, String), (Wish, Outcome<Sending>)>,
    /// What nobody can handle, by the consumer that has to give it up and its tag.
    pub(super) poison: BTreeMap<(String, String), Poison>,
    /// What streams may have lost before anybody had handled it.
    pub(super) losses: Vec<Loss>,
    /// Consumers that were deleted and recreated, or went back to an older state, and so read some messages once more.
    pub(super) recreated: BTreeSet<String>,
    /// When orders were answered with 201.
    pub(super) accepted_at: Vec<Instant>,
    /// Answers that said something else than an earlier one to the same request.
    pub(super) contradictions: Vec<String>,
    /// Requests that were sent more than once.
    pub(super) repeated: u64,
    /// Orders that were not sent because too many waited for an answer.
    pub(super) left_out: u64,
}

/// A message that nobody can handle.
#[derive(Debug)]
pub(super) struct Poison {
    pub(super) subject: &'static str,
    pub(super) sending: Sending,
}

/// A fault that took messages out of a stream.
#[derive(Debug)]
pub(super) struct Loss {
    pub(super) stream: &'static str,
    /// When the oldest message that it may have taken was published.
    pub(super) since: Instant,
    /// While it lasted, every message that the stream took may have been lost.
    pub(super) during: RangeInclusive<Instant>,
    /// How many older messages its consumers had not acknowledged by then; `None` where the broker did not answer.
    pub(super) unhandled: Option<u64>,
}

impl Loss {
    fn explains(&self, sending: &Sending) -> bool {
        self.since <= *sending.end() && sending.start() <= self.during.end()
    }
}

impl Pages {
    /// Whether one of these streams may have lost a message.
    pub(super) fn may_be_lost(&self, streams: &[&str], sending: &Sending) -> bool {
        self.losses.iter().any(|loss| streams.contains(&loss.stream) && loss.explains(sending))
    }

    /// Whether a stream may have lost anything.
    pub(super) fn has_lost(&self, stream: &str) -> bool {
        self.losses.iter().any(|loss| loss.stream == stream)
    }

    /// How many of these messages `stream` may have lost, at most.
    pub(super) fn count_explained(&self, stream: &str, sent: &[&Sending]) -> u64 {
        let losses = self.losses.iter().filter(|loss| loss.stream == stream);
        losses
            .map(|loss| {
                let explained = sent.iter().filter(|sending| loss.explains(sending));
                let (older, newer): (Vec<&&Sending>, Vec<&&Sending>) =
                    explained.partition(|sending| sending.end() < loss.during.start());
                let older = older.len() as u64;
                newer.len() as u64 + loss.unhandled.map_or(older, |unhandled| unhandled.min(older))
            })
            .sum()
    }
}

impl Journal {
    pub(super) fn lock(&self) -> MutexGuard<'_, Pages> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
