//! Sources of records. A thread cuts each source into chunks, which other threads validate.

mod bytes;
pub(crate) mod download;
mod file;
mod format;
mod gunzip;
mod lines;
mod name;
#[cfg_attr(not(feature = "parquet"), path = "source/no_parquet.rs")]
mod parquet;
mod table;
mod text;

pub(crate) use file::{Freshness, Source};
pub use name::{Export, SourceName};
pub(crate) use parquet::Group;
pub(crate) use table::Header;

use std::{io, sync::Arc};

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

/// A part of a source with whole records.
#[derive(Debug)]
pub(crate) struct Chunk {
    pub(crate) start: Place,
    pub(crate) end: Place,
    pub(crate) content: Content,
}

/// The content of a chunk.
#[derive(Debug)]
pub(crate) enum Content {
    /// Whole lines, each a record as JSON.
    Lines(Vec<u8>),
    /// A line longer than the maximum, whose text is skipped.
    TooLong,
    /// Whole rows of a table.
    Rows(Arc<Header>, Vec<u8>),
    /// A row group of Parquet.
    #[cfg_attr(not(feature = "parquet"), expect(dead_code, reason = "there are none"))]
    Group(Group),
}

/// Where a source is damaged, in bytes of the file as on disk, and how.
#[derive(Debug)]
pub(crate) struct Broken {
    pub(crate) byte: u64,
    pub(crate) cause: io::Error,
}

/// Why a source could not be read to its end.
#[derive(Debug, thiserror::Error)]
#[error("{name} is damaged near byte {byte}, after {unit} {reached}: {cause}. The records before the damage are kept")]
pub struct Damage {
    pub(crate) name: String,
    pub(crate) byte: u64,
    /// The last line or row that was read.
    pub(crate) reached: u64,
    pub(crate) unit: &'static str,
    pub(crate) cause: io::Error,
}
