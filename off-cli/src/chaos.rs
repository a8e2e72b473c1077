//! `off chaos`: breaks a system of its own in every way it knows, and proves that nothing was lost.
//!
//! The system runs as separate processes beside a private Postgres and NATS. It is loaded through its public API, a
//! seeded schedule of faults is carried out, everything is healed, and once all is still the journal of those who sent
//! is held against Postgres and the streams.

mod journal;
mod messages;
mod parts;
mod people;
mod proxy;
mod reconcile;
mod run;
mod schedule;
mod summary;

pub(crate) use run::{Options, run};
