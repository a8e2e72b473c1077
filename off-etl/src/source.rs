//! Sources of records: opens them, cuts them into chunks, and parses the records of a chunk.

mod boundaries;
mod chunk;
mod contents;
mod cut;
mod damage;
pub(crate) mod download;
mod format;
mod gunzip;
mod lines;
mod meter;
mod name;
mod open;
#[cfg_attr(not(feature = "parquet"), path = "source/without_parquet.rs")]
mod parquet;
mod place;
mod table;
mod text;
mod unpack;

pub(crate) use chunk::Chunk;
pub(crate) use contents::Contents;
pub(crate) use damage::Broken;
pub use damage::Damage;
pub use name::{Export, SourceName};
pub(crate) use open::{Freshness, Source};
pub(crate) use place::Place;
