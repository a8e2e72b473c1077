//! The latest events, in memory. Each viewer has a position among them, so a slow one costs nothing and needs no queue.

use super::event::{LiveEvent, Source};
use std::{collections::VecDeque, fmt, str::FromStr};

/// How many events are kept. A viewer who is further behind gets the present instead.
pub(super) const CAPACITY: usize = 16 * 1024;

/// Up to where a viewer has seen the events of one stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Place {
    sequence: u64,
    /// When the stream was created, in seconds since 1970: another stream of the same name counts from one again. 0 if it
    /// is not known yet.
    created: u64,
}

/// Up to where a viewer has seen the events of each stream. It is the id of server-sent events, and means the same in all
/// replicas of the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Cursor([Place; Source::ALL.len()]);

/// The sequence numbers of ORDERS, STOCK and USERS, each with the time at which its stream was created, like
/// `1209.6925f1a0-88.6925f1a0-7.6925f1a0`.
impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Place { sequence, created }) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "-" };
            write!(f, "{separator}{sequence}.{created:x}")?;
        }
        Ok(())
    }
}

impl FromStr for Cursor {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let place = |text: &str| {
            let (sequence, created) = text.split_once('.')?;
            Some(Place { sequence: sequence.parse().ok()?, created: u64::from_str_radix(created, 16).ok()? })
        };
        let places: Option<Vec<Place>> = text.split('-').map(place).collect();
        places.ok_or(())?.try_into().map(Self).map_err(drop)
    }
}

impl Cursor {
    /// What was seen up to one or the other, of the same streams.
    fn max(self, other: Self) -> Self {
        let mut both = self;
        for (place, other) in both.0.iter_mut().zip(other.0) {
            place.sequence = place.sequence.max(other.sequence);
        }
        both
    }

    /// Whether both are of the same streams, as far as that is known.
    fn is_of_same_streams(self, other: Self) -> bool {
        let is_same =
            |(one, other): (&Place, Place)| one.created == 0 || other.created == 0 || one.created == other.created;
        self.0.iter().zip(other.0).all(is_same)
    }
}

/// Where a viewer is among the events: the number of the next one.
pub(super) type Position = u64;

#[derive(Debug, Default)]
pub(super) struct Ring {
    events: VecDeque<(Cursor, LiveEvent)>,
    /// The number of the first event that is kept.
    first: Position,
    /// Up to where all events have come.
    cursor: Cursor,
    /// Up to where events are not kept any more, or were never read.
    floor: Cursor,
    /// The newest messages when their streams were followed from an earlier one: nobody waits for what comes before.
    newest: Cursor,
}

/// An event for a viewer.
#[derive(Debug)]
pub(super) struct NextEvent {
    /// Up to where the viewer has seen everything with it.
    pub(super) cursor: Cursor,
    pub(super) subject: &'static str,
    pub(super) json: Box<str>,
}

/// What a viewer gets next.
#[derive(Debug)]
pub(super) struct Next {
    pub(super) position: Position,
    pub(super) cursor: Cursor,
    pub(super) events: Vec<NextEvent>,
    /// Whether events were left out.
    pub(super) has_gap: bool,
}

impl Ring {
    /// Events of `source` come from `sequence` on, of a stream that was `created` at this time and has messages up to
    /// `newest`. If that is not the next one, all that was kept is forgotten, and every viewer has a gap.
    pub(super) fn begin(&mut self, source: Source, sequence: u64, created: u64, newest: u64) {
        let (index, before) = (source as usize, sequence.saturating_sub(1));
        self.newest.0[index] = Place { sequence: newest, created };
        let known = std::mem::replace(&mut self.cursor.0[index], Place { sequence: before, created });
        if known.created == 0 {
            // The first time: nothing of this source was read yet.
            self.floor.0[index] = Place { sequence: before, created };
            return;
        }
        if known == self.cursor.0[index] {
            return;
        }
        self.first += self.events.len() as u64 + 1;
        self.events.clear();
        self.floor = self.cursor;
    }

    /// A message of `source` that is no event.
    pub(super) fn pass(&mut self, source: Source, sequence: u64) {
        self.cursor.0[source as usize].sequence = sequence;
    }

    pub(super) fn push(&mut self, event: LiveEvent) {
        self.cursor.0[event.source as usize].sequence = event.sequence;
        self.events.push_back((self.cursor, event));
        if self.events.len() > CAPACITY
            && let Some((cursor, _)) = self.events.pop_front()
        {
            self.floor = cursor;
            self.first += 1;
        }
    }

    /// The position after the newest event.
    pub(super) fn end(&self) -> (Position, Cursor) {
        (self.first + self.events.len() as u64, self.cursor)
    }

    /// Where a viewer begins who waits for nothing of the past, even if it is still being read.
    pub(super) fn present(&self) -> (Position, Cursor) {
        (self.end().0, self.cursor.max(self.newest))
    }

    /// The streams of which `cursor` has seen more than this gateway, each with the sequence number.
    pub(super) fn ahead(&self, cursor: Cursor) -> impl Iterator<Item = (Source, u64)> {
        let seen = Source::ALL.into_iter().zip(cursor.0).zip(self.cursor.max(self.newest).0);
        seen.filter(|((_, seen), own)| seen.sequence > own.sequence).map(|((source, seen), _)| (source, seen.sequence))
    }

    /// The position after `cursor`; `None` if events after it are not here.
    pub(super) fn position_after(&self, cursor: Cursor) -> Option<Position> {
        let is_kept = cursor.0.iter().zip(self.floor.0).all(|(seen, floor)| seen.sequence >= floor.sequence);
        let is_kept = is_kept && cursor.is_of_same_streams(self.cursor);
        let unseen = |(_, event): &(Cursor, LiveEvent)| event.sequence > cursor.0[event.source as usize].sequence;
        let index = self.events.iter().position(unseen).unwrap_or(self.events.len());
        is_kept.then_some(self.first + index as u64)
    }

    /// The events from `position` on that `is_wanted`, without those that a viewer has `seen` elsewhere.
    pub(super) fn after(&self, position: Position, seen: Cursor, is_wanted: impl Fn(&LiveEvent) -> bool) -> Next {
        let (end, cursor) = self.end();
        let has_gap = position < self.first || !seen.is_of_same_streams(self.cursor);
        let skipped = usize::try_from(position.saturating_sub(self.first)).unwrap_or(usize::MAX);
        let unseen = self.events.range(skipped.min(self.events.len())..);
        let is_new = |event: &LiveEvent| event.sequence > seen.0[event.source as usize].sequence;
        let wanted = unseen.filter(|(_, event)| !has_gap && is_new(event) && is_wanted(event));
        let events = wanted.map(|(cursor, LiveEvent { subject, json, .. })| NextEvent {
            cursor: cursor.max(seen),
            subject,
            json: json.clone(),
        });
        let events = events.collect();
        // Where events are missing, what was seen may be of a stream that is no more.
        let cursor = if has_gap { self.present().1 } else { cursor.max(seen) };
        Next { position: end, cursor, events, has_gap }
    }

    /// The newest events, newest first.
    pub(super) fn latest(&self, count: usize) -> impl Iterator<Item = &LiveEvent> {
        self.events.iter().rev().map(|(_, event)| event).take(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::live::event::PublicEvent;
    use chrono::DateTime;

    /// Somebody who has seen nothing.
    const NONE: Cursor = Cursor([Place { sequence: 0, created: 0 }; 3]);

    /// When the streams were created.
    const CREATED: u64 = 0xabc;

    fn event(source: Source, sequence: u64) -> LiveEvent {
        let (subject, at) = (source.subjects()[0], DateTime::UNIX_EPOCH);
        let public = PublicEvent { subject, at, barcode: None, name: None, quantity: None, total: None };
        let json = format!("{source:?} {sequence}").into();
        let (order, person, device, placed_at) = (None, None, None, None);
        LiveEvent {
            source,
            sequence,
            subject,
            stored_at: at,
            is_repeated: false,
            order,
            person,
            device,
            placed_at,
            public,
            json,
        }
    }

    fn texts(next: &Next) -> Vec<&str> {
        next.events.iter().map(|event| &*event.json).collect()
    }

    #[test]
    fn a_viewer_resumes_after_the_last_event_of_each_stream() {
        let mut ring = Ring::default();
        ring.begin(Source::Orders, 11, CREATED, 10);
        ring.begin(Source::Stock, 1, CREATED, 0);
        for (source, sequence) in [(Source::Orders, 11), (Source::Stock, 1), (Source::Orders, 14), (Source::Stock, 2)] {
            ring.push(event(source, sequence));
        }
        let after = |text: &str| {
            let position = ring.position_after(text.parse().unwrap())?;
            let events = ring.after(position, text.parse().unwrap(), |_| true).events;
            Some(events.into_iter().map(|event| event.json.into_string()).collect::<Vec<_>>())
        };
        assert_eq!(after("11.abc-1.abc-0.abc").unwrap(), ["Orders 14", "Stock 2"]);
        assert_eq!(after("14.abc-2.abc-0.abc").unwrap(), [""; 0]);
        assert_eq!(after("10.abc-0.abc-0.abc").unwrap().len(), 4);
        // Another replica was ahead.
        assert_eq!(after("99.abc-2.abc-0.abc").unwrap(), [""; 0]);
        // These events were never read.
        assert_eq!(after("9.abc-0.abc-0.abc"), None);
        assert_eq!(ring.end().1.to_string(), "14.abc-2.abc-0.0");
        for wrong in ["", "1", "1-2-3", "1.a-2.a", "1.a-2.a-3.a-4.a", "a.a-b.b-c.c", "-1.a-2.a-3.a"] {
            assert!(wrong.parse::<Cursor>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_viewer_who_is_too_slow_gets_the_present() {
        let mut ring = Ring::default();
        ring.begin(Source::Orders, 1, CREATED, 0);
        let (start, _) = ring.end();
        for sequence in 1..=CAPACITY as u64 {
            ring.push(event(Source::Orders, sequence));
        }
        assert_eq!(texts(&ring.after(start, NONE, |event| event.sequence < 3)), ["Orders 1", "Orders 2"]);
        ring.push(event(Source::Orders, CAPACITY as u64 + 1));
        let next = ring.after(start, NONE, |_| true);
        assert!(next.has_gap && next.events.is_empty());
        assert!(ring.position_after("0.abc-0.abc-0.abc".parse().unwrap()).is_none());
        assert!(ring.position_after("1.abc-0.abc-0.abc".parse().unwrap()).is_some());
        // From there on nothing is missing.
        let next = ring.after(next.position, NONE, |_| true);
        assert!(!next.has_gap && next.events.is_empty());
    }

    #[test]
    fn another_stream_of_the_same_name_is_a_gap_even_if_it_has_grown_as_long() {
        let mut ring = Ring::default();
        ring.begin(Source::Orders, 1, CREATED, 0);
        ring.push(event(Source::Orders, 1));
        let (position, cursor) = ring.end();
        ring.begin(Source::Orders, 2, CREATED + 1, 1);
        ring.push(event(Source::Orders, 2));
        assert!(ring.after(position, cursor, |_| true).has_gap);
        // Nor can a viewer of the stream before resume at a gateway that knows only the new one.
        let mut other = Ring::default();
        other.begin(Source::Orders, 1, CREATED + 1, 0);
        assert_eq!(other.position_after(cursor), None);
        assert!(other.after(0, cursor, |_| true).has_gap);
    }

    #[test]
    fn a_stream_that_begins_elsewhere_is_a_gap() {
        let mut ring = Ring::default();
        ring.begin(Source::Orders, 1, CREATED, 0);
        ring.push(event(Source::Orders, 1));
        let (position, cursor) = ring.end();
        ring.begin(Source::Orders, 2, CREATED, 1);
        assert_eq!(ring.position_after(cursor), Some(position));
        // The broker was restored from an older copy.
        ring.begin(Source::Orders, 1, CREATED, 0);
        assert!(ring.after(0, NONE, |_| true).has_gap && ring.after(position, cursor, |_| true).has_gap);
    }

    #[test]
    fn what_is_read_again_is_only_for_those_who_have_not_seen_it() {
        let mut ring = Ring::default();
        ring.begin(Source::Orders, 1, CREATED, 3);
        let (position, new_viewer) = ring.present();
        let (_, old_viewer) = ring.end();
        for sequence in 1..=4 {
            ring.push(event(Source::Orders, sequence));
        }
        assert_eq!(texts(&ring.after(position, new_viewer, |_| true)), ["Orders 4"]);
        assert_eq!(ring.after(position, old_viewer, |_| true).events.len(), 4);
        // The last message is gone, so that all are read again from the second on.
        let (position, cursor) = ring.end();
        ring.begin(Source::Orders, 2, CREATED, 3);
        let next = ring.after(position, cursor, |_| true);
        assert!(next.has_gap && next.events.is_empty());
        for sequence in [2, 3, 5] {
            ring.push(event(Source::Orders, sequence));
        }
        assert_eq!(texts(&ring.after(next.position, next.cursor, |_| true)), ["Orders 5"]);
    }

    #[test]
    fn an_id_may_be_ahead_of_this_replica() {
        let mut ring = Ring::default();
        ring.begin(Source::Orders, 1, CREATED, 3);
        let ahead = |text: &str| ring.ahead(text.parse().unwrap()).collect::<Vec<_>>();
        assert_eq!(ahead("3.abc-0.abc-0.abc"), []);
        assert_eq!(ahead("4.abc-0.abc-7.abc"), [(Source::Orders, 4), (Source::Users, 7)]);
    }
}
