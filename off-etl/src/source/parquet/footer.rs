//! Reads the metadata at the end of a Parquet file without keeping it in memory.
//!
//! Open Food Facts writes a row group for each thousand rows, and the metadata of each group describes 145 columns:
//! some 90 MB in all, and four times that when parsed at once. So only the place of each group's metadata is recorded,
//! and a reader gets the metadata of a file with a single group. The format is the compact protocol of Apache Thrift
//! (<https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md>) with the structures of
//! `parquet.thrift` (<https://github.com/apache/parquet-format>).

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Error, Read, Seek, SeekFrom},
    os::unix::fs::FileExt,
};

/// First and last bytes of a Parquet file.
pub(in super::super) const MAGIC: &[u8; 4] = b"PAR1";

/// Nesting depth of structures; real files have half of it.
const MAX_DEPTH: u32 = 16;

/// Size of the metadata before the groups, in bytes; mostly the schema.
const MAX_HEAD_SIZE: u64 = 16 * 1024 * 1024;

/// Field numbers in `FileMetaData` and `RowGroup`.
const ROW_GROUPS: i64 = 4;
const NUM_ROWS: i64 = 3;

/// Types of the compact protocol.
const TRUE: u8 = 1;
const FALSE: u8 = 2;
const BYTE: u8 = 3;
const I16: u8 = 4;
const I64: u8 = 6;
const DOUBLE: u8 = 7;
const BINARY: u8 = 8;
const LIST: u8 = 9;
const SET: u8 = 10;
const STRUCT: u8 = 12;

/// Where the metadata of a row group is.
#[derive(Debug, Clone, Copy)]
pub(super) struct GroupPlace {
    /// First byte in the file.
    pub(super) start: u64,
    /// Length in bytes.
    length: usize,
    /// Rows of the group.
    pub(super) rows: u64,
}

/// The metadata of a file, without the parsed metadata of its groups.
#[derive(Debug)]
pub(super) struct Footer {
    /// The metadata before the groups, mostly the schema.
    head: Vec<u8>,
    /// In the order of the file.
    pub(super) groups: Vec<GroupPlace>,
    /// Where the metadata begins in the file.
    pub(super) start: u64,
}

impl Footer {
    /// Reads the metadata of `file`. Fails if it is damaged.
    pub(super) fn read(file: &File) -> io::Result<Self> {
        let length = file.metadata()?.len();
        // The length of the metadata and the magic.
        let mut trailer = [0; 8];
        let end = length.checked_sub(trailer.len() as u64).ok_or_else(|| invalid("it is too short"))?;
        file.read_exact_at(&mut trailer, end)?;
        let [a, b, c, d, magic @ ..] = trailer;
        if magic != *MAGIC {
            return Err(invalid("it does not end like a Parquet file, perhaps it is truncated"));
        }
        let start = end
            .checked_sub(u64::from(u32::from_le_bytes([a, b, c, d])))
            .ok_or_else(|| invalid("its metadata would be longer than the file"))?;
        let mut bytes = BufReader::new(file);
        bytes.seek(SeekFrom::Start(start))?;
        let (head, groups) = MetadataReader { bytes: bytes.take(end - start), at: start }.metadata(file, start)?;
        Ok(Self { head, groups, start })
    }

    /// The end of a file that has only this group.
    pub(super) fn of(&self, file: &File, group: GroupPlace) -> io::Result<Vec<u8>> {
        let mut end = self.head.clone();
        // The header of a list with one structure.
        end.push(1 << 4 | STRUCT);
        let before = end.len();
        end.resize(before + group.length, 0);
        file.read_exact_at(&mut end[before..], group.start)?;
        // The end of the fields.
        end.push(0);
        let length = u32::try_from(end.len()).map_err(|_| invalid("the metadata of a row group is too long"))?;
        end.extend(length.to_le_bytes());
        end.extend(MAGIC);
        Ok(end)
    }
}

fn invalid(what: &'static str) -> Error {
    Error::new(io::ErrorKind::InvalidData, what)
}

/// Walks through metadata and parses only what is needed.
struct MetadataReader<R> {
    bytes: R,
    /// Current position in the file.
    at: u64,
}

impl<R: BufRead> MetadataReader<R> {
    /// Reads metadata that begins at `start`. Returns the part before the groups, and the places of the groups.
    fn metadata(mut self, file: &File, start: u64) -> io::Result<(Vec<u8>, Vec<GroupPlace>)> {
        let mut field = 0;
        while let Some((id, kind)) = self.field(field)? {
            field = id;
            if id != ROW_GROUPS {
                self.skip(kind, 0)?;
                continue;
            }
            let before = self.at - start;
            if kind != LIST || before > MAX_HEAD_SIZE {
                return Err(invalid("its metadata is damaged"));
            }
            let mut head = vec![0; usize::try_from(before).unwrap_or(usize::MAX)];
            file.read_exact_at(&mut head, start)?;
            let (count, _) = self.list()?;
            let groups = (0..count).map(|_| self.group()).collect::<io::Result<_>>()?;
            return Ok((head, groups));
        }
        Err(invalid("its metadata lists no row groups"))
    }

    /// Reads the metadata of a group.
    fn group(&mut self) -> io::Result<GroupPlace> {
        let (start, mut field, mut rows) = (self.at, 0, None);
        while let Some((id, kind)) = self.field(field)? {
            field = id;
            if id == NUM_ROWS {
                rows = u64::try_from(unzigzag(self.varint()?)).ok();
            } else {
                self.skip(kind, 0)?;
            }
        }
        let length = usize::try_from(self.at - start).unwrap_or(usize::MAX);
        let rows = rows.ok_or_else(|| invalid("a row group does not state its number of rows"))?;
        Ok(GroupPlace { start, length, rows })
    }

    /// The number and type of the next field in a structure whose previous field was `last`; `None` at its end.
    fn field(&mut self, last: i64) -> io::Result<Option<(i64, u8)>> {
        let head = self.byte()?;
        Ok(match (head >> 4, head & 0xf) {
            (_, 0) => None,
            (0, kind) => Some((unzigzag(self.varint()?), kind)),
            (further, kind) => Some((last + i64::from(further), kind)),
        })
    }

    /// Reads the header of a list: the number of items, and their type.
    fn list(&mut self) -> io::Result<(u64, u8)> {
        let head = self.byte()?;
        let count = if head >> 4 == 0xf { self.varint()? } else { u64::from(head >> 4) };
        Ok((count, head & 0xf))
    }

    /// Skips a value. A boolean field has no bytes, because its type is its value.
    fn skip(&mut self, kind: u8, depth: u32) -> io::Result<()> {
        if depth > MAX_DEPTH {
            return Err(invalid("its metadata is damaged"));
        }
        match kind {
            TRUE | FALSE => Ok(()),
            BYTE => self.skip_bytes(1),
            I16..=I64 => self.varint().map(drop),
            DOUBLE => self.skip_bytes(8),
            BINARY => {
                let length = self.varint()?;
                self.skip_bytes(length)
            }
            LIST | SET => {
                let (count, kind) = self.list()?;
                // In a list, a boolean is one byte.
                let kind = if matches!(kind, TRUE | FALSE) { BYTE } else { kind };
                (0..count).try_for_each(|_| self.skip(kind, depth + 1))
            }
            STRUCT => {
                let mut field = 0;
                while let Some((id, kind)) = self.field(field)? {
                    field = id;
                    self.skip(kind, depth + 1)?;
                }
                Ok(())
            }
            _ => Err(invalid("its metadata is damaged")),
        }
    }

    fn byte(&mut self) -> io::Result<u8> {
        let mut byte = [0];
        self.bytes.read_exact(&mut byte)?;
        self.at += 1;
        Ok(byte[0])
    }

    fn skip_bytes(&mut self, count: u64) -> io::Result<()> {
        let passed = io::copy(&mut Read::by_ref(&mut self.bytes).take(count), &mut io::sink())?;
        self.at += passed;
        if passed == count { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    /// Reads a number with 7 bits in each byte, the lowest first.
    fn varint(&mut self) -> io::Result<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(invalid("its metadata is damaged"))
    }
}

/// Decodes a signed number: 0, -1, 1, -2 and so on are encoded as 0, 1, 2, 3.
fn unzigzag(number: u64) -> i64 {
    (number >> 1).cast_signed() ^ -(number & 1).cast_signed()
}
