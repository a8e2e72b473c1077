//! The machinery every process of off stands on. It knows no single service.
//!
//! A service is a type that implements [`Service`]: its name, its settings and a `start` that spawns its tasks on a
//! [`Kit`] and returns. [`run`] makes a program of it; `off up` starts several in one process.

pub mod backoff;
pub mod bus;
pub mod clock;
pub mod db;
pub mod fields;
pub mod health;
pub mod http;
mod log_limit;
pub mod outbox;
pub mod schedule;
pub mod secret;
pub mod servers;
pub mod service;
pub mod stdout;
pub mod tasks;
pub mod telemetry;
pub mod text;

/// Requests and messages are many small pieces of memory for a short time, from many threads. Of mimalloc the version 2: what
/// a burst took is given back within a tenth of a second, where version 3 keeps it for the next.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

pub use bus::Bus;
pub use clock::Clock;
pub use log_limit::LogLimit;
pub use outbox::Outbox;
pub use service::{Addresses, Kit, Listeners, Service, run, run_with};
pub use tasks::Tasks;
