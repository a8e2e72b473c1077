#![doc = include_str!("../README.md")]

mod config;
mod filter;
mod import;
mod loose;
pub mod mend;
mod pipeline;
pub mod product;
mod progress;
pub mod record;
mod report;
mod source;
mod store;

pub use config::{Choice, Config, SourceName};
pub use filter::Filter;
pub use import::{Imported, import, import_and_tell};
pub use product::Profile;
pub use progress::Progress;
pub use report::{Report, Tally};
pub use source::{
    Damage,
    api::{self, ApiConfig},
    deltas::{DeltasConfig, keep_up},
};
