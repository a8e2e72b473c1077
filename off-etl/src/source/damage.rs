//! Damage of a source.

use std::io;

/// Where a source is damaged, in bytes of the file as on disk, and how.
#[derive(Debug)]
pub(crate) struct Broken {
    /// Approximate position of the damage.
    pub(crate) byte: u64,
    pub(crate) cause: io::Error,
}

/// Why a source could not be read to its end.
#[derive(Debug, thiserror::Error)]
#[error("{name} is damaged near byte {byte}, after {unit} {reached}: {cause}. {effect}")]
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
    /// What it means for the catalog.
    pub(crate) effect: &'static str,
}
