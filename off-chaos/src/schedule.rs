//! The schedule of faults. The same seed gives the same schedule.

use off_cli::serve::Name;
use off_events::streams;
use rand::{
    RngExt, SeedableRng,
    seq::{IndexedRandom, SliceRandom},
};
use rand_chacha::ChaCha8Rng;
use std::{fmt, mem::discriminant, time::Duration};

/// A connection between two parts of the system, named after the part that opens it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Link {
    /// A service to Postgres.
    ToPostgres(Name),
    /// A service to NATS.
    ToNats(Name),
    /// Clients and devices to a service.
    FromClients(Name),
    /// The generator's devices to a service.
    FromGenerator(Name),
}

impl Link {
    pub(crate) const ALL: [Self; 10] = [
        Self::ToPostgres(Name::Users),
        Self::ToPostgres(Name::Orders),
        Self::ToNats(Name::Users),
        Self::ToNats(Name::Orders),
        Self::ToNats(Name::Notifications),
        Self::ToNats(Name::Generator),
        Self::FromClients(Name::Users),
        Self::FromClients(Name::Orders),
        Self::FromGenerator(Name::Users),
        Self::FromGenerator(Name::Orders),
    ];
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ToPostgres(name) => write!(f, "{name} – postgres"),
            Self::ToNats(name) => write!(f, "{name} – nats"),
            Self::FromClients(name) => write!(f, "clients – {name}"),
            Self::FromGenerator(name) => write!(f, "generator – {name}"),
        }
    }
}

/// A fault that is injected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fault {
    /// `kill -9` of services, which are restarted later.
    Kill(Vec<Name>),
    KillPostgres,
    KillNats,
    /// SIGSTOP, and later SIGCONT.
    Freeze(Name),
    /// Connections are closed and refused.
    Cut(Link),
    /// Each chunk of data is delayed.
    Slow(Link),
    /// Open connections receive nothing any more and are not closed. Later connections work.
    BlackHole(Link),
    /// Old messages are republished in another order.
    Republish,
    /// Messages that no handler can process, on every subject.
    Poison,
    /// The broker's storage is full, so it refuses messages.
    FillBroker,
    /// A stream is full: it discards its oldest messages, or refuses new ones.
    FillStream(&'static str),
    /// The message schedules (waits) of pending and shipped orders are purged.
    PurgeSchedules,
    /// A consumer is deleted and recreated later.
    DeleteConsumer(&'static str),
    /// A stream is deleted with its messages and recreated later.
    DeleteStream(&'static str),
    /// The broker's store is replaced by an older copy.
    RollBackBroker,
    /// The disk of Postgres is full.
    FillPostgres,
    /// A device sends large and small junk messages as fast as it can.
    Junk,
    /// All clients drop their connections during requests, and retry the requests later.
    DisconnectClients,
    /// The devices' clocks are off by hours.
    SkewClocks,
}

impl Fault {
    /// One fault of each kind, with a random target.
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
            Self::BlackHole(link(rng)),
            Self::Republish,
            Self::Poison,
            Self::FillBroker,
            Self::FillStream(stream(rng)),
            Self::PurgeSchedules,
            Self::DeleteConsumer(streams::CONSUMERS[rng.random_range(0..streams::CONSUMERS.len())].name),
            // The dead letters are never deleted: the run checks that they are complete.
            Self::DeleteStream([streams::ORDERS, streams::USERS, streams::STOCK][rng.random_range(0..3)].name),
            Self::RollBackBroker,
            Self::FillPostgres,
            Self::Junk,
            Self::DisconnectClients,
            Self::SkewClocks,
        ]
    }

    /// Whether two faults must not overlap because the end of one would heal the other.
    fn conflicts_with(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Freeze(one), Self::Freeze(other)) => one == other,
            (
                Self::Cut(one) | Self::Slow(one) | Self::BlackHole(one),
                Self::Cut(other) | Self::Slow(other) | Self::BlackHole(other),
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
            Self::BlackHole(link) => write!(f, "black-hole {link}"),
            Self::Republish => f.write_str("republish old messages in another order"),
            Self::Poison => f.write_str("poison messages on every subject"),
            Self::FillBroker => f.write_str("fill the broker's storage"),
            Self::FillStream(name) => write!(f, "fill stream {name}"),
            Self::PurgeSchedules => f.write_str("purge all message schedules"),
            Self::DeleteConsumer(name) => write!(f, "delete consumer {name}"),
            Self::DeleteStream(name) => write!(f, "delete stream {name}"),
            Self::RollBackBroker => f.write_str("roll the broker's store back to an older copy"),
            Self::FillPostgres => f.write_str("fill the disk of postgres"),
            Self::Junk => f.write_str("a device sends junk messages"),
            Self::DisconnectClients => f.write_str("clients disconnect during their requests"),
            Self::SkewClocks => f.write_str("skew the devices' clocks by hours"),
        }
    }
}

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
