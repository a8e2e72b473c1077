//! Test support: private Postgres and NATS servers, running services, and polling helpers.

#![expect(
    clippy::expect_used,
    clippy::missing_panics_doc,
    clippy::panic,
    reason = "a failure in a helper must fail the calling test"
)]

mod catalog;
mod clients;
mod database;
mod end;
mod eventually;
mod messages;
mod nats;
mod process;
mod program;
mod service;
pub mod tokens;
mod world;

pub use catalog::{BISCUITS, LENTILS, TEA, add_product};
pub use clients::{Answer, Http};
pub use database::{Database, SHARED_POSTGRES, start_postgres};
pub use end::Leftover;
pub use eventually::{eventually, eventually_within};
pub use nats::TestNats;
pub use process::{Log, Process};
pub use program::Program;
pub use service::Running;
pub use world::World;
