//! Shared parts of the benchmarks: private servers, services, load generation and reports.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "prints its results to a terminal")]

pub mod cluster;
pub mod export;
pub mod load;
pub mod plain;
pub mod program;
pub mod report;
pub mod stage;
pub mod usage;

pub use cluster::Cluster;
pub use load::{Outcome, load};
pub use program::Program;
pub use stage::Stage;
