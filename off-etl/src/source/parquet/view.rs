//! Presents a Parquet file as if it had one row group, so that each thread can read another group.

use super::footer::{Footer, GroupPlace};
use ::parquet::{
    errors::{ParquetError, Result},
    file::reader::{ChunkReader, Length},
};
use bytes::Bytes;
use std::{
    fs::File,
    io::{self, BufReader, Read},
    os::unix::fs::FileExt,
    sync::Arc,
};

/// The file up to its metadata, followed by metadata of a single group.
pub(super) struct View {
    file: Arc<File>,
    /// Where the metadata begins.
    metadata_start: u64,
    metadata: Bytes,
}

impl View {
    /// The view of `file` in which `group` is the only row group.
    pub(super) fn of(file: &Arc<File>, footer: &Footer, group: GroupPlace) -> io::Result<Self> {
        let metadata = footer.of(file, group)?.into();
        Ok(Self { file: file.clone(), metadata_start: footer.start, metadata })
    }

    /// The replaced metadata from byte `start` on; `None` if `start` is before it.
    fn metadata_from(&self, start: u64) -> Option<Bytes> {
        let before = usize::try_from(start.checked_sub(self.metadata_start)?).ok()?;
        Some(self.metadata.slice(before.min(self.metadata.len())..))
    }
}

impl Length for View {
    fn len(&self) -> u64 {
        self.metadata_start + self.metadata.len() as u64
    }
}

impl ChunkReader for View {
    type T = Box<dyn Read>;

    fn get_read(&self, start: u64) -> Result<Self::T> {
        Ok(match self.metadata_from(start) {
            Some(metadata) => Box::new(io::Cursor::new(metadata)),
            None => Box::new(BufReader::new(PositionedReader { file: self.file.clone(), at: start })),
        })
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        if let Some(metadata) = self.metadata_from(start) {
            let too_short = || ParquetError::EOF("it is shorter than its metadata states".to_owned());
            return (length <= metadata.len()).then(|| metadata.slice(..length)).ok_or_else(too_short);
        }
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, start)?;
        Ok(bytes.into())
    }
}

/// Reads from a position, without moving the shared file position.
struct PositionedReader {
    file: Arc<File>,
    at: u64,
}

impl Read for PositionedReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buffer, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}
