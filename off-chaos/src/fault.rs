//! The faults, and the links between the parts of the system that some of them act on.

use off_cli::serve::ServiceName;
use off_events::streams;
use rand::{RngExt, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use std::fmt;

/// A connection between two parts of the system, named after the part that opens it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Link {
    /// A service to Postgres.
    ToPostgres(ServiceName),
    /// A service to NATS.
    ToNats(ServiceName),
    /// A program to the auth service: for keys, tokens and sign-ins.
    ToAuth(ServiceName),
    /// The gateway to a service.
    FromGateway(ServiceName),
    /// Clients and devices to the gateway.
    FromClients,
    /// The generator's devices to the gateway.
    FromGenerator,
}

impl Link {
    pub(crate) const ALL: [Self; 29] = [
        Self::ToPostgres(ServiceName::Auth),
        Self::ToPostgres(ServiceName::Users),
        Self::ToPostgres(ServiceName::Orders),
        Self::ToPostgres(ServiceName::Billing),
        Self::ToPostgres(ServiceName::Notifications),
        Self::ToPostgres(ServiceName::Operator),
        Self::ToNats(ServiceName::Auth),
        Self::ToNats(ServiceName::Users),
        Self::ToNats(ServiceName::Orders),
        Self::ToNats(ServiceName::Billing),
        Self::ToNats(ServiceName::Notifications),
        Self::ToNats(ServiceName::Operator),
        Self::ToNats(ServiceName::Gateway),
        Self::ToNats(ServiceName::Generator),
        Self::ToAuth(ServiceName::Users),
        Self::ToAuth(ServiceName::Orders),
        Self::ToAuth(ServiceName::Billing),
        Self::ToAuth(ServiceName::Notifications),
        Self::ToAuth(ServiceName::Operator),
        Self::ToAuth(ServiceName::Gateway),
        Self::ToAuth(ServiceName::Generator),
        Self::FromGateway(ServiceName::Auth),
        Self::FromGateway(ServiceName::Users),
        Self::FromGateway(ServiceName::Orders),
        Self::FromGateway(ServiceName::Billing),
        Self::FromGateway(ServiceName::Notifications),
        Self::FromGateway(ServiceName::Operator),
        Self::FromClients,
        Self::FromGenerator,
    ];
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ToPostgres(name) => write!(f, "{name} – postgres"),
            Self::ToNats(name) => write!(f, "{name} – nats"),
            Self::ToAuth(name) => write!(f, "{name} – auth"),
            Self::FromGateway(name) => write!(f, "gateway – {name}"),
            Self::FromClients => f.write_str("clients – gateway"),
            Self::FromGenerator => f.write_str("generator – gateway"),
        }
    }
}

/// A fault that is injected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fault {
    /// `kill -9` of services, which are restarted later.
    Kill(Vec<ServiceName>),
    KillPostgres,
    KillNats,
    /// The mail server closes all connections and refuses new ones.
    KillSmtp,
    /// SIGSTOP, and later SIGCONT.
    Freeze(ServiceName),
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
    pub(crate) fn kinds(rng: &mut ChaCha8Rng) -> [Self; 21] {
        let mut names = ServiceName::ALL;
        names.shuffle(rng);
        let several = rng.random_range(2..=names.len());
        let link = |rng: &mut ChaCha8Rng| Link::ALL[rng.random_range(0..Link::ALL.len())];
        let stream = |rng: &mut ChaCha8Rng| streams::STREAMS[rng.random_range(0..streams::STREAMS.len())].name;
        [
            Self::Kill(vec![names[0]]),
            Self::Kill(names[..several].to_vec()),
            Self::KillPostgres,
            Self::KillNats,
            Self::KillSmtp,
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

    /// Whether the notifications service may be unable to store what became of an e-mail: it is killed, or its database
    /// is unavailable.
    pub(crate) fn hides_mail_outcomes(&self) -> bool {
        match self {
            Self::Kill(names) => names.contains(&ServiceName::Notifications),
            Self::KillPostgres | Self::FillPostgres => true,
            Self::Cut(link) | Self::BlackHole(link) => *link == Link::ToPostgres(ServiceName::Notifications),
            _ => false,
        }
    }

    /// Whether two faults must not overlap because the end of one would heal the other.
    pub(crate) fn conflicts_with(&self, other: &Self) -> bool {
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
            Self::KillSmtp => f.write_str("kill the mail server"),
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
