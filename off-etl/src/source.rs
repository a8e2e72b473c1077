//! Where records come from: each source is cut into pieces on a thread of its own, to be judged on others.

pub mod api;
mod bytes;
mod csv;
pub(crate) mod deltas;
pub(crate) mod download;
mod file;
mod gunzip;
mod lines;
mod parquet;

pub(crate) use csv::Columns;
pub use file::Damage;
pub(crate) use file::{Freshness, Source};

use crate::record::Record;
use ::csv::ByteRecord;
use std::sync::Arc;

/// The built-in sample: about a thousand invented products in the shape of the export, with its dirt.
pub(crate) const SAMPLE: &[u8] = include_bytes!("../sample/products.jsonl");

/// Where in a source something is, so that an import can go on there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Place {
    /// What lies before it: unpacked bytes of JSON lines, rows of a table, pages of the API.
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
    /// A line longer than any record is.
    TooLong,
    /// Rows of a table, each with its line in the file; `None` is a row that does not fit its header.
    Rows(Arc<Columns>, Vec<(u64, Option<ByteRecord>)>),
    /// Records that had to be read where they were cut.
    Records(Vec<Record>),
}
