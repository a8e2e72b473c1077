//! Where records come from: each source is cut into pieces on a thread of its own, to be judged on others.

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
pub use name::SourceName;
pub(crate) use parquet::Group;
pub(crate) use table::Header;

use std::{io, sync::Arc};

/// The built-in sample: about a thousand invented products in the shape of the export, with its dirt.
pub(crate) const SAMPLE: &[u8] = include_bytes!("../sample/products.jsonl");

/// Where in a source something is, so that an import can go on there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Place {
    /// What lies before it: unpacked bytes of text, rows of Parquet, pages of the API.
    pub(crate) offset: u64,
    /// Lines before it; rows and records where there are no lines.
    pub(crate) line: u64,
}

/// Some records, as they were cut from a source.
#[derive(Debug)]
pub(crate) struct Piece {
    pub(crate) start: Place,
    pub(crate) end: Place,
    pub(crate) content: Content,
}

#[derive(Debug)]
pub(crate) enum Content {
    /// Whole lines, each a record as JSON.
    Lines(Vec<u8>),
    /// Longer than any record is.
    TooLong,
    /// Whole rows of a table.
    Rows(Arc<Header>, Vec<u8>),
    /// A row group of Parquet.
    #[cfg_attr(not(feature = "parquet"), expect(dead_code, reason = "there are none"))]
    Group(Group),
}

/// Where a source broke off, in bytes as it lies on disk, and why.
#[derive(Debug)]
pub(crate) struct Broken {
    pub(crate) byte: u64,
    pub(crate) cause: io::Error,
}

/// Why a source could not be read to its end.
#[derive(Debug, thiserror::Error)]
#[error("{name} is damaged near byte {byte}, after {unit} {reached}: {cause}. What came before is kept")]
pub struct Damage {
    pub(crate) name: String,
    pub(crate) byte: u64,
    /// What was read last, in lines or rows.
    pub(crate) reached: u64,
    pub(crate) unit: &'static str,
    pub(crate) cause: io::Error,
}
