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
mod observer;
mod pipeline;
mod prices;
pub mod product;
mod profile;
mod progress;
pub mod record;
mod reject;
mod report;
mod sink;
mod source;
mod store;
mod validation;

pub use api::ApiConfig;
pub use choice::Choice;
pub use config::Config;
pub use deltas::{DeltasConfig, apply_deltas};
pub use filter::Filter;
pub use import::{ImportOptions, Imported, import};
pub use metrics::METRICS;
pub use observer::{NoObserver, Observer, Progress};
pub use prices::{PriceChanges, PriceReject, PriceReport, import_prices};
pub use profile::Profile;
pub use progress::ProgressReporter;
pub use reject::RejectReason;
pub use report::{Report, Tally};
pub use source::{Damage, Export, SourceName};
