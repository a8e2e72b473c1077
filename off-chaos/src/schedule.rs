//! The schedule of faults. The same seed gives the same schedule.

use crate::fault::Fault;
use rand::{
    RngExt, SeedableRng,
    seq::{IndexedRandom, SliceRandom},
};
use rand_chacha::ChaCha8Rng;
use std::{mem::discriminant, time::Duration};

/// A fault with its time and duration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Planned {
    pub(crate) fault: Fault,
    /// Offset from the start of the run.
    pub(crate) at: Duration,
    pub(crate) duration: Duration,
}

impl Planned {
    fn end(&self) -> Duration {
        self.at + self.duration
    }
}

/// Share of a run without faults at its beginning; at its end it is twice as much.
const QUIET_SHARE: f64 = 0.06;

/// Longer than the consumers' ack wait of 30 seconds, after which the broker redelivers a message. A run that is long
/// enough freezes a service for this long.
const LONGER_THAN_ACK_WAIT: Duration = Duration::from_secs(35);

/// Percentage of faults that begin when another begins or ends, to find bugs in such transitions.
const EDGE_PERCENT: u32 = 40;

/// How far from that moment they begin, in seconds.
const EDGE_OFFSET: std::ops::Range<f64> = -0.3..0.3;

/// The faults of a run of this length, ordered by time. Each kind of fault occurs at least once, then again at random.
/// Faults may overlap unless one heals the other.
pub(crate) fn plan(seed: u64, length: Duration) -> Vec<Planned> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let (first, last) = (length.mul_f64(QUIET_SHARE), length.mul_f64(1.0 - 2.0 * QUIET_SHARE));
    let between = length.mul_f64(1.0 - 3.0 * QUIET_SHARE);
    let kinds = Fault::kinds(&mut rng).len();
    // A long run has a fault every five seconds; a short one distributes them over its length.
    let pause = (between / u32::try_from(kinds).unwrap_or(1)).min(Duration::from_secs(5));
    let mut plan: Vec<Planned> = Vec::new();
    let mut at = first;
    let long_freeze = length >= LONGER_THAN_ACK_WAIT * 4;
    while at < last {
        let mut round = Fault::kinds(&mut rng);
        round.shuffle(&mut rng);
        for fault in round {
            if at >= last {
                break;
            }
            let is_first_freeze = !plan.iter().any(|planned| matches!(planned.fault, Fault::Freeze(_)));
            let duration = if matches!(fault, Fault::Freeze(_)) && is_first_freeze && long_freeze {
                LONGER_THAN_ACK_WAIT
            } else {
                pause.mul_f64(rng.random_range(0.3..1.5)).min(last.saturating_sub(at))
            };
            // Starts after the conflicting faults have ended.
            let conflicts_end = plan.iter().filter(|other| fault.conflicts_with(&other.fault)).map(Planned::end).max();
            let edge = rng.random_ratio(EDGE_PERCENT, 100).then(|| pick_edge(&plan, &mut rng)).flatten();
            let start = edge.unwrap_or(at).max(first).max(conflicts_end.unwrap_or_default());
            if start < last {
                plan.push(Planned { fault, at: start, duration });
            }
            at += pause.mul_f64(rng.random_range(0.6..1.4));
        }
    }
    // A short run ends before every kind has occurred.
    let mut missing = Fault::kinds(&mut rng).to_vec();
    missing.retain(|kind| !plan.iter().any(|planned| discriminant(&planned.fault) == discriminant(kind)));
    for fault in missing {
        let at = first + last.saturating_sub(first).mul_f64(rng.random_range(0.0..0.9));
        let conflicts_end = plan.iter().filter(|other| fault.conflicts_with(&other.fault)).map(Planned::end).max();
        let at = at.max(conflicts_end.unwrap_or_default());
        plan.push(Planned { fault, at, duration: pause.mul_f64(0.5) });
    }
    plan.sort_by_key(|planned| planned.at);
    plan
}

/// A time close to the beginning or end of one of the last three faults.
fn pick_edge(plan: &[Planned], rng: &mut ChaCha8Rng) -> Option<Duration> {
    let other = plan.iter().rev().take(3).collect::<Vec<_>>().choose(rng).copied()?;
    let edge = if rng.random_ratio(1, 2) { other.at } else { other.end() };
    Duration::try_from_secs_f64(edge.as_secs_f64() + rng.random_range(EDGE_OFFSET)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_fault_occurs_in_a_short_run() {
        let kinds = Fault::kinds(&mut ChaCha8Rng::seed_from_u64(0));
        for seed in 0..200 {
            let plan = plan(seed, Duration::from_secs(20));
            for kind in &kinds {
                let occurs = plan.iter().any(|planned| discriminant(&planned.fault) == discriminant(kind));
                assert!(occurs, "seed {seed} has no {kind}");
            }
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_schedule() {
        let length = Duration::from_mins(5);
        assert_eq!(plan(7, length), plan(7, length));
        assert_ne!(plan(7, length), plan(8, length));
    }

    #[test]
    fn every_kind_of_fault_occurs_in_a_long_run_and_none_heals_another() {
        for seed in 0..200 {
            let plan = plan(seed, Duration::from_mins(5));
            let occurs = |kind: fn(&Fault) -> bool| plan.iter().any(|planned| kind(&planned.fault));
            assert!(occurs(|fault| matches!(fault, Fault::Kill(names) if names.len() > 1)));
            assert!(occurs(|fault| *fault == Fault::KillPostgres) && occurs(|fault| *fault == Fault::KillNats));
            assert!(occurs(|fault| matches!(fault, Fault::Cut(_))) && occurs(|fault| matches!(fault, Fault::Slow(_))));
            assert!(occurs(|fault| *fault == Fault::Poison) && occurs(|fault| *fault == Fault::FillBroker));
            assert!(occurs(|fault| *fault == Fault::FillPostgres) && occurs(|fault| *fault == Fault::RollBackBroker));
            assert!(occurs(|fault| matches!(fault, Fault::DeleteStream(_))));
            let overlaps = plan.windows(2).filter(|pair| pair[1].at < pair[0].end()).count();
            assert!(overlaps > 0, "seed {seed} has no two faults at once");
            assert!(
                plan.iter().any(|planned| planned.duration == LONGER_THAN_ACK_WAIT),
                "seed {seed} has no freeze that is longer than the ack wait"
            );
            for (index, one) in plan.iter().enumerate() {
                for other in plan[index + 1..].iter().filter(|other| one.fault.conflicts_with(&other.fault)) {
                    assert!(one.end() <= other.at || other.end() <= one.at, "{one:?} heals {other:?}");
                }
            }
        }
    }
}
