//! Takes the place of `parquet` in a program built without it: Parquet files are recognized and refused.

use super::{Broken, Contents, Place};
use crate::{prices::PriceRecord, record::Record, reject::RejectReason};
use std::{convert::Infallible, fs::File, io};

/// First bytes of a Parquet file.
pub(super) const MAGIC: &[u8; 4] = b"PAR1";

/// A row group; never created.
#[derive(Debug)]
pub(super) struct Group(Infallible);

/// Why the file cannot be read.
#[expect(clippy::unnecessary_wraps, reason = "the signature is that of `parquet`")]
pub(super) fn unreadable(_: &File, _: Contents) -> Option<String> {
    Some("it is Parquet, which this program does not support: use `off-etl`".to_owned())
}

/// Always fails; never called, because `unreadable` refuses the file before.
pub(super) fn cut(
    _: File,
    _: Place,
    _: impl Fn(u64, u64),
    _: impl FnMut(Place, Place, Group) -> bool,
) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

impl Group {
    /// Never called, because there is no row group.
    pub(super) fn read(&self, _: impl FnMut(u64, Result<Record, RejectReason>) -> bool) -> Result<(), Broken> {
        match self.0 {}
    }

    /// Never called, because there is no row group.
    pub(super) fn read_prices(
        &self,
        _: impl FnMut(u64, Result<PriceRecord, RejectReason>) -> bool,
    ) -> Result<(), Broken> {
        match self.0 {}
    }
}
