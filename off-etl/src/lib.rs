#![doc = include_str!("../README.md")]

mod config;
mod import;
mod loose;
pub mod product;
pub mod record;
mod report;
mod source;
mod store;

pub use config::{Config, SourceName};
pub use import::{Progress, import, import_with_bar};
pub use product::Profile;
pub use report::Report;
pub use source::api::{self, ApiConfig};
