//! What the benchmarks stand on: servers of their own, services, a load, and a way to tell.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it talks to a person in a terminal")]

pub mod cluster;
pub mod export;
pub mod load;
pub mod plain;
pub mod program;
pub mod report;
pub mod stage;
pub mod used;

pub use cluster::Cluster;
pub use load::{Outcome, load};
pub use program::Program;
pub use stage::Stage;
