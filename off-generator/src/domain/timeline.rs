//! The times and kinds of events.

use super::{Kind, Purpose, Weights, rng};

/// The frequency of events, in simulated time.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Pace {
    /// Events per second. Each kind has its share, at regular intervals.
    Rate(f64),
    /// Seconds between two events, each of a random kind.
    Period(f64),
}

impl Pace {
    /// Events per second.
    pub(super) fn events_per_second(self) -> f64 {
        match self {
            Self::Rate(rate) => rate,
            Self::Period(period) => period.recip(),
        }
    }
}

/// The sequence of the kinds and times of all events.
#[derive(Debug)]
pub(super) struct Timeline {
    seed: u64,
    pace: Pace,
    weights: Weights,
    /// The number of events of each kind so far.
    counts: [u64; 3],
}

/// The time, kind and number of an event.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Slot {
    /// Simulated seconds since the start.
    pub(super) at: f64,
    pub(super) kind: Kind,
    /// The number of the event within its kind, from 0.
    pub(super) number: u64,
}

impl Timeline {
    /// The timeline of a run from its start.
    pub(super) fn new(seed: u64, pace: Pace, weights: Weights) -> Self {
        Self { seed, pace, weights, counts: [0; 3] }
    }

    /// The next event; `None` if the rate or all weights are 0.
    pub(super) fn next(&mut self) -> Option<Slot> {
        let (at, kind) = match self.pace {
            Pace::Rate(rate) => {
                let rates = Kind::ALL.map(|kind| (kind, rate * self.weights.share(kind)));
                let next = rates.into_iter().filter(|(_, rate)| *rate > 0.0);
                let next = next.map(|(kind, rate)| ((self.counts[kind as usize] + 1) as f64 / rate, kind));
                next.min_by(|(one, _), (other, _)| one.total_cmp(other))?
            }
            Pace::Period(period) => {
                let index: u64 = self.counts.iter().sum();
                let kind = self.weights.draw(&mut rng(self.seed, Purpose::Kind, [index, 0]))?;
                ((index + 1) as f64 * period, kind)
            }
        };
        let number = self.counts[kind as usize];
        self.counts[kind as usize] += 1;
        Some(Slot { at, kind, number })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots(pace: Pace) -> Vec<Slot> {
        let weights = Weights::new([(Kind::Registration, 1), (Kind::Order, 3), (Kind::Consumption, 6)]);
        let mut timeline = Timeline::new(7, pace, weights);
        (0..1000).filter_map(|_| timeline.next()).collect()
    }

    #[test]
    fn each_kind_has_its_share_of_the_rate_and_consecutive_numbers() {
        let slots = slots(Pace::Rate(10.0));
        assert!(slots.is_sorted_by_key(|slot| slot.at));
        assert!((slots[999].at - 100.0).abs() < 1.0, "{:?}", slots[999]);
        for (kind, share) in [(Kind::Registration, 100), (Kind::Order, 300), (Kind::Consumption, 600)] {
            let numbers: Vec<u64> = slots.iter().filter(|slot| slot.kind == kind).map(|slot| slot.number).collect();
            assert!(numbers.len().abs_diff(share) <= 1 && numbers.iter().copied().eq(0..numbers.len() as u64));
        }
    }

    #[test]
    fn with_a_period_events_have_equal_distances() {
        let slots = slots(Pace::Period(60.0));
        assert!(slots.windows(2).all(|pair| (pair[1].at - pair[0].at - 60.0).abs() < 1e-6));
        assert!(slots.iter().filter(|slot| slot.kind == Kind::Consumption).count().abs_diff(600) < 60);
    }

    #[test]
    fn without_a_rate_or_weights_there_are_no_events() {
        let none = Weights::new(Kind::ALL.map(|kind| (kind, 0)));
        for pace in [Pace::Rate(1.0), Pace::Period(1.0)] {
            assert_eq!(Timeline::new(7, pace, none.clone()).next(), None);
        }
        let some = Weights::new(Kind::ALL.map(|kind| (kind, 1)));
        assert_eq!(Timeline::new(7, Pace::Rate(0.0), some).next(), None);
    }
}
