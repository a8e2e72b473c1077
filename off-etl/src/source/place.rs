//! Positions in a source.

/// A position in a source, where an import can resume.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Place {
    /// What comes before it: decompressed bytes of text, rows of Parquet, or pages of the API.
    pub(crate) offset: u64,
    /// Lines before it; rows or records in a source without lines.
    pub(crate) line: u64,
}
