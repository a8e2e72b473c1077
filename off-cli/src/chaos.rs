//! `off chaos`: injects faults into a private system and proves that nothing was lost.
//!
//! The services run as separate processes with a private Postgres and NATS. Clients load the system through its public
//! API while a seeded schedule injects faults. At the end all faults are healed. Once the system has drained, the
//! journal of what clients and devices sent is compared with Postgres and the streams.

mod clients;
mod journal;
mod messages;
mod parts;
mod proxy;
mod reconcile;
mod run;
mod schedule;
mod summary;

pub(crate) use run::{Options, run};
