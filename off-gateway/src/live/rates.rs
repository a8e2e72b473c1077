//! Events per second, and how long orders took to reach each status, in the last five minutes.

use super::event::{LiveEvent, subjects};
use chrono::{DateTime, Utc};
use hdrhistogram::Histogram;
use off_events::Order;
use serde::Serialize;
use std::collections::{BTreeMap, VecDeque};
use utoipa::ToSchema;

/// How far back the charts reach, in seconds.
const SECONDS: i64 = 300;

/// How many seconds share one histogram.
const PERIOD: i64 = 10;

/// Rates that are shown as numbers are averages of this time, in seconds.
const AVERAGED: i64 = 10;

/// The statuses whose time since the order was placed is measured, with their subjects.
const REACHED: [(&str, &str); 3] =
    [("paid", Order::PAID), ("shipped", Order::SHIPPED), ("completed", Order::COMPLETED)];

/// The longest time that is measured, in milliseconds: a day.
const MAX_MILLIS: u64 = 24 * 3600 * 1000;

/// What happened in the last five minutes.
#[derive(Debug)]
pub(super) struct Rates {
    /// The number of events by subject, for each second; the newest last.
    seconds: VecDeque<(i64, Box<[u32]>)>,
    /// The times to each status, for each period; the newest last.
    periods: VecDeque<(i64, Histograms)>,
}

/// The times to each status.
type Histograms = [Option<Histogram<u32>>; REACHED.len()];

/// How long orders took from being placed to a status, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct TimeToStatus {
    pub(crate) p50: u64,
    pub(crate) p99: u64,
    /// How many orders.
    pub(crate) orders: u64,
}

/// The last five minutes, for charts.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct History {
    seconds: Vec<SecondOfHistory>,
    times: Vec<PeriodOfHistory>,
}

/// The events of a second.
#[derive(Debug, Clone, Default, Serialize, ToSchema)]
pub(super) struct SecondOfHistory {
    /// When it began, in seconds since 1970.
    at: i64,
    /// The number of events by subject; without those that did not happen.
    events: BTreeMap<&'static str, u32>,
}

/// The orders that reached a status within ten seconds.
#[derive(Debug, Clone, Default, Serialize, ToSchema)]
pub(super) struct PeriodOfHistory {
    /// When it began, in seconds since 1970.
    at: i64,
    /// How long they took, by status.
    times: BTreeMap<&'static str, TimeToStatus>,
}

impl Rates {
    pub(super) fn new() -> Self {
        Self { seconds: VecDeque::new(), periods: VecDeque::new() }
    }

    /// Counts an event, unless it is repeated, or was stored too long ago. Its own time would hide that it was late.
    pub(super) fn add(&mut self, event: &LiveEvent, now: DateTime<Utc>) {
        if event.is_repeated {
            return;
        }
        // The clock of the broker may be ahead.
        let second = event.stored_at.min(now).timestamp();
        let Some(subject) = subjects().position(|subject| subject == event.subject) else { return };
        let size = subjects().count();
        if let Some(counts) = entry(&mut self.seconds, second, SECONDS, || vec![0; size].into())
            && let Some(count) = counts.get_mut(subject)
        {
            *count += 1;
        }
        let reached = REACHED.iter().position(|(_, subject)| *subject == event.subject);
        let Some((status, placed_at)) = reached.zip(event.placed_at) else { return };
        let millis =
            u64::try_from((event.stored_at - placed_at).num_milliseconds()).unwrap_or_default().min(MAX_MILLIS);
        let period = second - second.rem_euclid(PERIOD);
        if let Some(histograms) = entry(&mut self.periods, period, SECONDS, Default::default)
            && let Some(histogram) = histograms.get_mut(status)
        {
            *histogram = histogram.take().or_else(histogram_of_times);
            if let Some(histogram) = histogram {
                // Cannot fail: the histogram grows with its values.
                let _ = histogram.record(millis.max(1));
            }
        }
    }

    /// Events per second by subject, on average of the last ten seconds before `now`.
    pub(super) fn per_second(&self, now: DateTime<Utc>) -> BTreeMap<&'static str, f64> {
        let (until, from) = (now.timestamp(), now.timestamp() - AVERAGED);
        let mut sums: BTreeMap<_, f64> = subjects().map(|subject| (subject, 0.0)).collect();
        for (_, counts) in self.seconds.iter().filter(|(second, _)| (from..until).contains(second)) {
            for (subject, count) in subjects().zip(counts) {
                *sums.entry(subject).or_default() += f64::from(*count) / AVERAGED as f64;
            }
        }
        // A tenth is precise enough.
        for rate in sums.values_mut() {
            *rate = (*rate * 10.0).round() / 10.0;
        }
        sums
    }

    /// The times to each status of the last five minutes before `now`; without those that no order reached.
    pub(super) fn times(&self, now: DateTime<Utc>) -> BTreeMap<&'static str, TimeToStatus> {
        let from = now.timestamp() - SECONDS;
        let Some(mut all) = histogram_of_times() else { return BTreeMap::new() };
        let mut times = BTreeMap::new();
        for (index, (status, _)) in REACHED.iter().enumerate() {
            all.reset();
            for (_, histograms) in self.periods.iter().filter(|(second, _)| *second > from) {
                if let Some(Some(histogram)) = histograms.get(index) {
                    let _ = all.add(histogram);
                }
            }
            if !all.is_empty() {
                times.insert(*status, TimeToStatus::of(&all));
            }
        }
        times
    }

    pub(super) fn history(&self, now: DateTime<Utc>) -> History {
        let from = now.timestamp() - SECONDS;
        let seconds = self.seconds.iter().filter(|(second, _)| *second > from).map(SecondOfHistory::of);
        let times = self.periods.iter().filter(|(second, _)| *second > from).map(PeriodOfHistory::of);
        History { seconds: seconds.collect(), times: times.collect() }
    }

    /// The last whole second before `now`, and the period that goes on.
    pub(super) fn newest(&self, now: DateTime<Utc>) -> (SecondOfHistory, PeriodOfHistory) {
        let last = now.timestamp() - 1;
        let second = self.seconds.iter().rev().find(|(second, _)| *second == last).map(SecondOfHistory::of);
        let second = second.unwrap_or(SecondOfHistory { at: last, ..SecondOfHistory::default() });
        (second, self.periods.back().map(PeriodOfHistory::of).unwrap_or_default())
    }
}

impl SecondOfHistory {
    fn of((at, counts): &(i64, Box<[u32]>)) -> Self {
        let events = subjects().zip(counts.iter().copied()).filter(|(_, count)| *count > 0);
        Self { at: *at, events: events.collect() }
    }
}

impl PeriodOfHistory {
    fn of((at, histograms): &(i64, Histograms)) -> Self {
        let times = REACHED.iter().zip(histograms);
        let times = times.filter_map(|((status, _), histogram)| Some((*status, TimeToStatus::of(histogram.as_ref()?))));
        Self { at: *at, times: times.collect() }
    }
}

impl TimeToStatus {
    fn of(histogram: &Histogram<u32>) -> Self {
        Self { p50: histogram.value_at_quantile(0.5), p99: histogram.value_at_quantile(0.99), orders: histogram.len() }
    }
}

/// Two significant digits are enough for a chart. `None` never happens: the number of digits is valid.
fn histogram_of_times() -> Option<Histogram<u32>> {
    Histogram::new(2).ok()
}

/// The entry of `at`, which is made if it is missing; `None` if it is more than `kept` before the newest. Older entries
/// are removed. Events of different streams do not come in the order of their times.
fn entry<T>(entries: &mut VecDeque<(i64, T)>, at: i64, kept: i64, new: impl FnOnce() -> T) -> Option<&mut T> {
    if entries.back().is_some_and(|(newest, _)| at <= newest - kept) {
        return None;
    }
    let mut index = entries.partition_point(|(entry, _)| *entry < at);
    if entries.get(index).is_none_or(|(entry, _)| *entry != at) {
        entries.insert(index, (at, new()));
        let oldest = entries.back().map_or(at, |(newest, _)| *newest) - kept;
        while entries.front().is_some_and(|(entry, _)| *entry <= oldest) {
            entries.pop_front();
            index = index.saturating_sub(1);
        }
    }
    entries.get_mut(index).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::live::event::{PublicEvent, Source};
    use chrono::TimeDelta;

    /// Later than all events.
    const FAR: DateTime<Utc> = DateTime::<Utc>::MAX_UTC;

    fn event(subject: &'static str, at: DateTime<Utc>, placed_at: DateTime<Utc>) -> LiveEvent {
        let public = PublicEvent { subject, at, barcode: None, name: None, quantity: None, total: None };
        let (source, sequence, json) = (Source::Orders, 1, "".into());
        let (order, person, device, placed_at) = (None, None, None, Some(placed_at));
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

    #[test]
    fn events_are_counted_by_the_second_in_which_they_happened() {
        let (mut rates, start) = (Rates::new(), DateTime::UNIX_EPOCH + TimeDelta::seconds(1000));
        for second in [5, 9, 5, 7, 400] {
            let at = start + TimeDelta::seconds(second);
            rates.add(&event(Order::PENDING, at, at), FAR);
        }
        // More than five minutes before the newest.
        rates.add(&event(Order::PENDING, start + TimeDelta::seconds(99), start), FAR);
        let now = start + TimeDelta::seconds(401);
        assert!((rates.per_second(now)["orders.pending"] - 0.1).abs() < 1e-9);
        let history = rates.history(now);
        assert_eq!(history.seconds.iter().map(|second| second.at).collect::<Vec<_>>(), [1400]);

        let mut rates = Rates::new();
        for second in [5, 9, 5, 7] {
            let at = start + TimeDelta::seconds(second);
            rates.add(&event(Order::PENDING, at, at), FAR);
        }
        let counts = rates.history(now - TimeDelta::seconds(380)).seconds;
        let counts: Vec<_> = counts.iter().map(|second| (second.at, second.events["orders.pending"])).collect();
        assert_eq!(counts, [(1005, 2), (1007, 1), (1009, 1)]);
    }

    #[test]
    fn the_time_to_a_status_counts_from_the_order() {
        let (mut rates, start) = (Rates::new(), DateTime::UNIX_EPOCH + TimeDelta::seconds(1000));
        for millis in 1..=100 {
            let at = start + TimeDelta::milliseconds(millis * 100);
            rates.add(&event(Order::PAID, at, start), FAR);
        }
        let times = rates.times(start + TimeDelta::seconds(11));
        assert_eq!(times.keys().copied().collect::<Vec<_>>(), ["paid"]);
        let paid = times["paid"];
        assert!((4_900..=5_100).contains(&paid.p50) && (9_800..=10_000).contains(&paid.p99), "{paid:?}");
        assert_eq!(paid.orders, 100);
        assert!(rates.times(start + TimeDelta::seconds(400)).is_empty());
    }

    #[test]
    fn a_late_event_counts_when_it_was_stored_and_a_repeated_one_does_not_count() {
        let (mut rates, start) = (Rates::new(), DateTime::UNIX_EPOCH + TimeDelta::seconds(1000));
        let stored_at = start + TimeDelta::seconds(40);
        let late = LiveEvent { stored_at, ..event(Order::COMPLETED, start + TimeDelta::seconds(2), start) };
        let repeated = LiveEvent { is_repeated: true, ..event(Order::SHIPPED, stored_at, start) };
        for event in [&late, &repeated] {
            rates.add(event, FAR);
        }
        let times = rates.times(stored_at);
        assert_eq!(times.keys().copied().collect::<Vec<_>>(), ["completed"]);
        assert!((39_000..=41_000).contains(&times["completed"].p50), "{times:?}");
        let seconds = rates.history(stored_at + TimeDelta::seconds(1)).seconds;
        assert_eq!(seconds.iter().map(|second| second.at).collect::<Vec<_>>(), [1040]);
    }
}
