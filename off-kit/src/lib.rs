//! Shared infrastructure of all off processes. It does not depend on any service.
//!
//! A service is a type that implements [`Service`]: a name, settings and a `start` function that spawns its tasks on a
//! [`Kit`] and returns. [`run`] turns it into a program; `off up` starts several services in one process.

pub mod auth;
pub mod backoff;
pub mod bus;
pub mod clock;
#[cfg(feature = "postgres")]
pub mod db;
#[cfg(feature = "password")]
pub mod email;
pub mod fields;
pub mod health;
pub mod http;
pub mod jobs;
mod kit;
mod log_limit;
#[cfg(feature = "postgres")]
pub mod outbox;
#[cfg(feature = "password")]
pub mod password;
mod running;
pub mod schedule;
pub mod secret;
pub mod service;
pub mod stdout;
pub mod tasks;
pub mod telemetry;
pub mod text;

/// Timeout for a unit of work of a handler, longer than the statement timeout of the database. A host that vanishes
/// does not close connections, and sqlx sets no TCP keepalive that would detect this
/// (<https://github.com/transact-rs/sqlx/issues/3540>).
const WORK_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(20);

/// The allocator of all programs, each of which declares it in `main.rs`. Requests and messages make many small,
/// short-lived allocations from many threads. mimalloc version 2 returns the memory of a burst to the system within a
/// tenth of a second; version 3 keeps it for the next burst.
pub use mimalloc::MiMalloc as Allocator;

pub use bus::Bus;
pub use clock::Clock;
pub use kit::{Addresses, Kit, Listeners};
pub use log_limit::LogLimit;
#[cfg(feature = "postgres")]
pub use outbox::Outbox;
pub use running::Running;
pub use service::{Service, run, run_with};
pub use tasks::Tasks;
