//! Parquet in a program that is built without it: it is told from text, and not read.

use super::{Broken, Piece, Place};
use crate::record::Record;
use std::{convert::Infallible, fs::File, io};

/// What a Parquet file begins with.
pub(super) const MAGIC: &[u8; 4] = b"PAR1";

/// A row group; there are none.
#[derive(Debug)]
pub(crate) struct Group(Infallible);

/// Nothing of it is looked at.
pub(super) fn unreadable(_: &File) -> Option<String> {
    Some("it is Parquet, which this program is built without: `off-etl` reads it".to_owned())
}

/// Gives nothing.
pub(super) fn cut(_: File, _: Place, _: impl Fn(u64, u64), _: impl FnMut(Piece) -> bool) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

impl Group {
    pub(crate) fn read(&self, _: impl FnMut(Vec<Record>) -> bool) -> Result<(), Broken> {
        match self.0 {}
    }
}
