//! What is done to the system, and when: always the same for the same seed.

use crate::serve::Name;
use off_events::streams;
use rand::{
    RngExt, SeedableRng,
    seq::{IndexedRandom, SliceRandom},
};
use rand_chacha::ChaCha8Rng;
use std::{fmt, mem::discriminant, time::Duration};

/// Two parts that talk to each other, the first of which began to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Link {
    ToPostgres(Name),
    ToNats(Name),
    /// People and devices to a service.
    FromPeople(Name),
    /// The generator's devices to a service.
    FromGenerator(Name),
}

impl Link {
    pub(super) const ALL: [Self; 10] = [
        Self::ToPostgres(Name::Users),
        Self::ToPostgres(Name::Orders),
        Self::ToNats(Name::Users),
        Self::ToNats(Name::Orders),
        Self::ToNats(Name::Notifications),
        Self::ToNats(Name::Generator),
        Self::FromPeople(Name::Users),
        Self::FromPeople(Name::Orders),
        Self::FromGenerator(Name::Users),
        Self::FromGenerator(Name::Orders),
    ];
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ToPostgres(name) => write!(f, "{name} – postgres"),
            Self::ToNats(name) => write!(f, "{name} – nats"),
            Self::FromPeople(name) => write!(f, "people – {name}"),
            Self::FromGenerator(name) => write!(f, "generator – {name}"),
        }
    }
}

/// Something that happens to systems.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fault {
    /// `kill -9` of services, which are started again after a while.
    Kill(Vec<Name>),
    KillPostgres,
    KillNats,
    /// SIGSTOP, and later SIGCONT.
    Freeze(Name),
    Cut(Link),
    Slow(Link),
    /// The other end vanishes without closing a connection; new ones reach it later.
    Silence(Link),
    /// Messages that were heard before are said again, in another order.
    Repeat,
    /// Messages nobody can handle, on every subject.
    Poison,
    /// The broker takes no more messages.
    FillBroker,
    /// A stream is full: its oldest messages go, or it refuses new ones.
    FillStream(&'static str),
    /// Waits that are kept for pending and shipped orders are gone.
    PurgeSchedules,
    /// Somebody deletes a consumer, which is recreated after a while.
    DeleteConsumer(&'static str),
    /// Somebody deletes a stream with all that is in it, which is recreated after a while.
    DeleteStream(&'static str),
    /// The broker's store is an older copy of itself.
    RollBackBroker,
    /// Postgres' disk is full.
    FillPostgres,
    /// A device sends large and small junk as fast as it can.
    Junk,
    /// Everyone who orders loses all connections in the middle of their requests, and repeats them later.
    DropPeople,
    /// The devices' clocks are wrong by hours.
    SkewClocks,
}

impl Fault {
    /// One fault of each kind; `rng` draws whom it hits.
    fn kinds(rng: &mut ChaCha8Rng) -> [Self; 20] {
        let mut names = Name::ALL;
        names.shuffle(rng);
        let several = rng.random_range(2..=names.len());
        let link = |rng: &mut ChaCha8Rng| Link::ALL[rng.random_range(0..Link::ALL.len())];
        let stream = |rng: &mut ChaCha8Rng| streams::STREAMS[rng.random_range(0..streams::STREAMS.len())].name;
        [
            Self::Kill(vec![names[0]]),
            Self::Kill(names[..several].to_vec()),
            Self::KillPostgres,
            Self::KillNats,
            Self::Freeze(names[1]),
            Self::Cut(link(rng)),
            Self::Slow(link(rng)),
            Self::Silence(link(rng)),
            Self::Repeat,
            Self::Poison,
            Self::FillBroker,
            Self::FillStream(stream(rng)),
            Self::PurgeSchedules,
            Self::DeleteConsumer(streams::CONSUMERS[rng.random_range(0..streams::CONSUMERS.len())].name),
            // Without dead letters nothing could tell whether the right ones were kept.
            Self::DeleteStream([streams::ORDERS, streams::USERS, streams::STOCK][rng.random_range(0..3)].name),
            Self::RollBackBroker,
            Self::FillPostgres,
            Self::Junk,
            Self::DropPeople,
            Self::SkewClocks,
        ]
    }

    /// Whether two faults cannot be at once: one would heal the other.
    fn disturbs(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Freeze(one), Self::Freeze(other)) => one == other,
            (
                Self::Cut(one) | Self::Slow(one) | Self::Silence(one),
                Self::Cut(other) | Self::Slow(other) | Self::Silence(other),
            ) => one == other,
            (Self::FillStream(one) | Self::DeleteStream(one), Self::FillStream(other) | Self::DeleteStream(other)) => {
                one == other
            }
            (Self::DeleteConsumer(_) | Self::DeleteStream(_), Self::DeleteConsumer(_) | Self::DeleteStream(_)) => true,
            _ => self == other,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kill(names) => {
                let names: Vec<_> = names.iter().map(|name| name.as_str()).collect();
                write!(f, "kill -9 {}", names.join(", "))
            }
            Self::KillPostgres => f.write_str("kill -9 postgres"),
            Self::KillNats => f.write_str("kill -9 nats-server"),
            Self::Freeze(name) => write!(f, "freeze {name}"),
            Self::Cut(link) => write!(f, "cut {link}"),
            Self::Slow(link) => write!(f, "slow {link}"),
            Self::Silence(link) => write!(f, "silence {link}"),
            Self::Repeat => f.write_str("repeat old messages in another order"),
            Self::Poison => f.write_str("poison on every subject"),
            Self::FillBroker => f.write_str("fill the broker's storage"),
            Self::FillStream(name) => write!(f, "fill stream {name}"),
            Self::PurgeSchedules => f.write_str("purge all message schedules"),
            Self::DeleteConsumer(name) => write!(f, "delete consumer {name}"),
            Self::DeleteStream(name) => write!(f, "delete stream {name}"),
            Self::RollBackBroker => f.write_str("roll the broker's store back to an older copy"),
            Self::FillPostgres => f.write_str("fill the disk of postgres"),
            Self::Junk => f.write_str("a device sends junk"),
            Self::DropPeople => f.write_str("people vanish in the middle of their requests"),
            Self::SkewClocks => f.write_str("devices' clocks wrong by hours"),
        }
    }
}

/// A fault with its time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Planned {
    pub(super) fault: Fault,
    /// Since the beginning.
    pub(super) at: Duration,
    pub(super) lasts: Duration,
}

impl Planned {
    fn ends(&self) -> Duration {
        self.at + self.lasts
    }
}

/// The first part of a run is without faults, and so is the last.
const QUIET: f64 = 0.06;

/// How long the broker waits for an answer before another gets the message: a run that is long enough freezes a service
/// for longer than that.
const LONGER_THAN_ACK_WAIT: Duration = Duration::from_secs(35);

/// How many of the faults begin as another begins or ends, in hundredths: what happens just then is what nobody thought of.
const AT_AN_EDGE: u32 = 40;

/// How near to it, in seconds.
const NEAR: std::ops::Range<f64> = -0.3..0.3;

/// All that happens in a run of this length, in the order of time. Every kind of fault happens once at least, then again
/// at random; faults may overlap where one does not heal the other.
pub(super) fn plan(seed: u64, length: Duration) -> Vec<Planned> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let (first, last) = (length.mul_f64(QUIET), length.mul_f64(1.0 - 2.0 * QUIET));
    let between = length.mul_f64(1.0 - 3.0 * QUIET);
    let kinds = Fault::kinds(&mut rng).len();
    // A long run has a fault every few seconds; a short one takes what time there is.
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
            let lasts = if matches!(fault, Fault::Freeze(_)) && is_first_freeze && long_freeze {
                LONGER_THAN_ACK_WAIT
            } else {
                pause.mul_f64(rng.random_range(0.3..1.5)).min(last.saturating_sub(at))
            };
            // What would be healed is waited for.
            let free = plan.iter().filter(|other| fault.disturbs(&other.fault)).map(Planned::ends).max();
            let edge = rng.random_ratio(AT_AN_EDGE, 100).then(|| edge(&plan, &mut rng)).flatten();
            let at_earliest = edge.unwrap_or(at).max(first).max(free.unwrap_or_default());
            if at_earliest < last {
                plan.push(Planned { fault, at: at_earliest, lasts });
            }
            at += pause.mul_f64(rng.random_range(0.6..1.4));
        }
    }
    // A short run ends before each kind has had its turn.
    let mut missing = Fault::kinds(&mut rng).to_vec();
    missing.retain(|kind| !plan.iter().any(|planned| discriminant(&planned.fault) == discriminant(kind)));
    for fault in missing {
        let at = first + last.saturating_sub(first).mul_f64(rng.random_range(0.0..0.9));
        let free = plan.iter().filter(|other| fault.disturbs(&other.fault)).map(Planned::ends).max();
        let at = at.max(free.unwrap_or_default());
        plan.push(Planned { fault, at, lasts: pause.mul_f64(0.5) });
    }
    plan.sort_by_key(|planned| planned.at);
    plan
}

/// The beginning or the end of one of the last faults, nearly.
fn edge(plan: &[Planned], rng: &mut ChaCha8Rng) -> Option<Duration> {
    let other = plan.iter().rev().take(3).collect::<Vec<_>>().choose(rng).copied()?;
    let edge = if rng.random_ratio(1, 2) { other.at } else { other.ends() };
    Duration::try_from_secs_f64(edge.as_secs_f64() + rng.random_range(NEAR)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_fault_happens_in_a_short_run() {
        let kinds = Fault::kinds(&mut ChaCha8Rng::seed_from_u64(0));
        for seed in 0..200 {
            let plan = plan(seed, Duration::from_secs(20));
            for kind in &kinds {
                let happens = plan.iter().any(|planned| discriminant(&planned.fault) == discriminant(kind));
                assert!(happens, "seed {seed} has no {kind}");
            }
        }
    }

    #[test]
    fn a_seed_repeats() {
        let length = Duration::from_mins(5);
        assert_eq!(plan(7, length), plan(7, length));
        assert_ne!(plan(7, length), plan(8, length));
    }

    #[test]
    fn every_kind_of_fault_happens_in_a_long_run_and_none_heals_another() {
        for seed in 0..200 {
            let plan = plan(seed, Duration::from_mins(5));
            let happens = |kind: fn(&Fault) -> bool| plan.iter().any(|planned| kind(&planned.fault));
            assert!(happens(|fault| matches!(fault, Fault::Kill(names) if names.len() > 1)));
            assert!(happens(|fault| *fault == Fault::KillPostgres) && happens(|fault| *fault == Fault::KillNats));
            assert!(
                happens(|fault| matches!(fault, Fault::Cut(_))) && happens(|fault| matches!(fault, Fault::Slow(_)))
            );
            assert!(happens(|fault| *fault == Fault::Poison) && happens(|fault| *fault == Fault::FillBroker));
            assert!(happens(|fault| *fault == Fault::FillPostgres) && happens(|fault| *fault == Fault::RollBackBroker));
            assert!(happens(|fault| matches!(fault, Fault::DeleteStream(_))));
            let overlaps = plan.windows(2).filter(|pair| pair[1].at < pair[0].ends()).count();
            assert!(overlaps > 0, "seed {seed} has no two faults at once");
            assert!(
                plan.iter().any(|planned| planned.lasts == LONGER_THAN_ACK_WAIT),
                "seed {seed} freezes too briefly"
            );
            for (index, one) in plan.iter().enumerate() {
                for other in plan[index + 1..].iter().filter(|other| one.fault.disturbs(&other.fault)) {
                    assert!(one.ends() <= other.at || other.ends() <= one.at, "{one:?} heals {other:?}");
                }
            }
        }
    }
}
