//! Parts of a source that are parsed in parallel.

use super::{Broken, Place, lines::Lines, parquet::Group, table::Rows};
use crate::{prices::PriceRecord, record::Record, reject::RejectReason};

/// A part of a source with whole records.
#[derive(Debug)]
pub(crate) struct Chunk {
    /// Where its records begin.
    pub(super) start: Place,
    /// Where the source continues after it.
    pub(crate) end: Place,
    pub(super) content: Content,
}

/// The content of a chunk.
#[derive(Debug)]
pub(super) enum Content {
    Lines(Lines),
    Rows(Rows),
    /// A row group of Parquet.
    Group(Group),
    /// A line longer than the maximum, whose text is skipped.
    TooLong,
}

impl Chunk {
    /// Parses the records, and passes each of them to `emit` with its line or row in the source, until they end or
    /// `emit` returns false. A record that cannot be read is passed as the reason.
    ///
    /// Fails if the chunk is damaged, after the records before the damage.
    pub(crate) fn read(&self, mut emit: impl FnMut(u64, Result<Record, RejectReason>) -> bool) -> Result<(), Broken> {
        let first = self.start.line + 1;
        let mut emit = |number, record| emit(first + number, record);
        match &self.content {
            Content::Lines(lines) => {
                lines.read(|line| Record::read(line).map_err(|_| RejectReason::NotJson), emit);
            }
            Content::Rows(rows) => rows.read(emit),
            Content::Group(group) => group.read(emit)?,
            Content::TooLong => drop(emit(0, Err(RejectReason::TooLong))),
        }
        Ok(())
    }

    /// The same for the prices of an export of Open Prices.
    pub(crate) fn read_prices(
        &self,
        mut emit: impl FnMut(u64, Result<PriceRecord, RejectReason>) -> bool,
    ) -> Result<(), Broken> {
        let first = self.start.line + 1;
        let mut emit = |number, record| emit(first + number, record);
        match &self.content {
            Content::Lines(lines) => lines.read(PriceRecord::read, emit),
            Content::Group(group) => group.read_prices(emit)?,
            // Tables are refused before.
            Content::TooLong | Content::Rows(_) => drop(emit(0, Err(RejectReason::TooLong))),
        }
        Ok(())
    }

    /// Where the source continues after the record in this line or row. `None` if an import can resume only after the
    /// whole chunk.
    pub(crate) fn place_after(&self, line: u64) -> Option<Place> {
        matches!(self.content, Content::Group(_)).then_some(Place { offset: line, line })
    }

    /// The buffer of its text, for reuse.
    pub(crate) fn into_buffer(self) -> Option<Vec<u8>> {
        match self.content {
            Content::Lines(lines) => Some(lines.0),
            Content::Rows(rows) => Some(rows.text),
            Content::Group(_) | Content::TooLong => None,
        }
    }
}
