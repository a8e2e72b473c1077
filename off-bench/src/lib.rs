//! Shared parts of the benchmarks: private servers, services, load generation and reports.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "prints its results to a terminal")]

pub mod cluster;
pub mod export;
pub mod front;
pub mod load;
pub mod plain;
pub mod plain_charge;
pub mod proc;
pub mod program;
pub mod report;
pub mod stage;
pub mod store;
pub mod usage;

pub use cluster::Cluster;
pub use front::Front;
pub use load::{Outcome, load};
pub use program::start_off;
pub use stage::Stage;

#[global_allocator]
static ALLOCATOR: off_kit::Allocator = off_kit::Allocator;
