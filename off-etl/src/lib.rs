#![doc = include_str!("../README.md")]

pub mod api;
mod choice;
mod config;
pub mod correction;
mod deltas;
mod filter;
mod import;
mod lenient;
mod metrics;
mod pipeline;
pub mod product;
mod progress;
pub mod record;
mod report;
mod source;
mod store;

pub use api::ApiConfig;
pub use choice::Choice;
pub use config::Config;
pub use deltas::{DeltasConfig, apply_deltas};
pub use filter::Filter;
pub use import::{Imported, import, import_and_tell};
pub use metrics::METRICS;
pub use product::Profile;
pub use progress::Progress;
pub use report::{Report, Tally};
pub use source::{Damage, SourceName};
