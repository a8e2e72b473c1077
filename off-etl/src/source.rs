//! Sources of records: opens them, cuts them into chunks, and parses the records of a chunk.

mod boundaries;
mod chunk;
mod cut;
pub(crate) mod download;
mod format;
mod gunzip;
mod lines;
mod meter;
mod name;
mod open;
#[cfg_attr(not(feature = "parquet"), path = "source/without_parquet.rs")]
mod parquet;
mod table;
mod text;
mod unpack;

pub(crate) use chunk::Chunk;
pub use name::{Export, SourceName};
pub(crate) use open::Source;

use chrono::{DateTime, Utc};
use std::io;

/// The built-in sample: a thousand invented products in the format of the JSONL export, including faulty ones.
pub(crate) const SAMPLE: &[u8] = include_bytes!("../sample/products.jsonl");

/// A position in a source, where an import can resume.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Place {
    /// What comes before it: decompressed bytes of text, rows of Parquet, or pages of the API.
    pub(crate) offset: u64,
    /// Lines before it; rows or records in a source without lines.
    pub(crate) line: u64,
}

/// Up to when a catalog has all changes after it imported a whole source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Freshness {
    /// Unknown.
    Unknown,
    /// Up to the newest change in the source.
    Newest,
    /// Up to this time.
    Until(DateTime<Utc>),
}

/// Where a source is damaged, in bytes of the file as on disk, and how.
#[derive(Debug)]
pub(crate) struct Broken {
    /// Approximate position of the damage.
    pub(crate) byte: u64,
    pub(crate) cause: io::Error,
}

/// Why a source could not be read to its end.
#[derive(Debug, thiserror::Error)]
#[error("{name} is damaged near byte {byte}, after {unit} {reached}: {cause}. The records before the damage are kept")]
pub struct Damage {
    /// Name of the source for display.
    pub(crate) name: String,
    /// Approximate position of the damage, in bytes of the file as on disk.
    pub(crate) byte: u64,
    /// The last line or row that was read.
    pub(crate) reached: u64,
    /// `line` or `row`.
    pub(crate) unit: &'static str,
    pub(crate) cause: io::Error,
}
