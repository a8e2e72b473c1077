//! For tests only: a Postgres and a NATS of their own, a running service, patience.

#![expect(
    clippy::expect_used,
    clippy::missing_panics_doc,
    clippy::panic,
    reason = "what goes wrong here fails the test that asked"
)]

mod catalogue;
mod clients;
mod database;
mod nats;
mod patience;
mod program;
mod service;
mod world;

pub use catalogue::{BISCUITS, LENTILS, TEA, add_product};
pub use clients::{Answer, Http};
pub use database::{Database, SHARED_POSTGRES, start_postgres};
pub use nats::TestNats;
pub use patience::{eventually, eventually_within};
pub use program::Program;
pub use service::Running;
pub use world::World;
