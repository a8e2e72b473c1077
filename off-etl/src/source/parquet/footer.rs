//! The end of a Parquet file, which says where everything is: walked through, and not kept.
//!
//! Open Food Facts writes a row group for each thousand rows, and of each group it says where 145 columns are: some 90 MB in all, and
//! four times that when it is parsed at once. So here it is only noted where what is said of each group begins and ends; a reader gets
//! the metadata of a file that has one group. The format is the compact protocol of Apache Thrift
//! (<https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md>) with the structures of `parquet.thrift`
//! (<https://github.com/apache/parquet-format>).

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Error, Read, Seek, SeekFrom},
    os::unix::fs::FileExt,
};

/// What a Parquet file begins and ends with.
pub(in super::super) const MAGIC: &[u8; 4] = b"PAR1";

/// Structures within structures; real ones are half as deep.
const DEEPEST: u32 = 16;

/// The most that is kept of what comes before the groups: the schema.
const LARGEST_HEAD: u64 = 16 * 1024 * 1024;

/// Fields of `FileMetaData` and `RowGroup`.
const ROW_GROUPS: i64 = 4;
const NUM_ROWS: i64 = 3;

/// Types of the compact protocol.
const LIST: u8 = 9;
const STRUCT: u8 = 12;

/// Where what is said of a row group is.
#[derive(Debug, Clone, Copy)]
pub(super) struct GroupPlace {
    pub(super) start: u64,
    length: usize,
    pub(super) rows: u64,
}

/// What is known of a file without parsing what it says of its groups.
#[derive(Debug)]
pub(super) struct Footer {
    /// Everything before the groups, the schema above all.
    head: Vec<u8>,
    pub(super) groups: Vec<GroupPlace>,
    /// Where it begins in the file.
    pub(super) start: u64,
}

impl Footer {
    pub(super) fn read(file: &File) -> io::Result<Self> {
        let length = file.metadata()?.len();
        // The length of the metadata and the magic.
        let mut trailer = [0; 8];
        let end = length.checked_sub(trailer.len() as u64).ok_or_else(|| invalid("it is too short"))?;
        file.read_exact_at(&mut trailer, end)?;
        let [a, b, c, d, magic @ ..] = trailer;
        if magic != *MAGIC {
            return Err(invalid("it does not end as Parquet does, perhaps it was cut short"));
        }
        let start = end
            .checked_sub(u64::from(u32::from_le_bytes([a, b, c, d])))
            .ok_or_else(|| invalid("its metadata would be longer than the file"))?;
        let mut bytes = BufReader::new(file);
        bytes.seek(SeekFrom::Start(start))?;
        let (head, groups) = Walk { bytes: bytes.take(end - start), at: start }.file(file, start)?;
        Ok(Self { head, groups, start })
    }

    /// The end of a file that has but this group.
    pub(super) fn of(&self, file: &File, group: GroupPlace) -> io::Result<Vec<u8>> {
        let mut end = self.head.clone();
        // A list of one structure.
        end.push(1 << 4 | STRUCT);
        let before = end.len();
        end.resize(before + group.length, 0);
        file.read_exact_at(&mut end[before..], group.start)?;
        // No field comes after it.
        end.push(0);
        let length = u32::try_from(end.len()).map_err(|_| invalid("what it says of a row group is too long"))?;
        end.extend(length.to_le_bytes());
        end.extend(MAGIC);
        Ok(end)
    }
}

fn invalid(what: &'static str) -> Error {
    Error::new(io::ErrorKind::InvalidData, what)
}

/// A walk through metadata, which looks at little of it.
struct Walk<R> {
    bytes: R,
    /// Where it is in the file.
    at: u64,
}

impl<R: BufRead> Walk<R> {
    /// The metadata of a file that begins at `start`: what comes before the groups, and where they are.
    fn file(mut self, file: &File, start: u64) -> io::Result<(Vec<u8>, Vec<GroupPlace>)> {
        let mut field = 0;
        while let Some((id, kind)) = self.field(field)? {
            field = id;
            if id != ROW_GROUPS {
                self.skip(kind, 0)?;
                continue;
            }
            let before = self.at - start;
            if kind != LIST || before > LARGEST_HEAD {
                return Err(invalid("its metadata is damaged"));
            }
            let mut head = vec![0; usize::try_from(before).unwrap_or(usize::MAX)];
            file.read_exact_at(&mut head, start)?;
            let (count, _) = self.list()?;
            let groups = (0..count).map(|_| self.group()).collect::<io::Result<_>>()?;
            return Ok((head, groups));
        }
        Err(invalid("its metadata names no row groups"))
    }

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
        Ok(GroupPlace { start, length, rows: rows.ok_or_else(|| invalid("a row group does not say how long it is"))? })
    }

    /// The number and the type of the next field of a structure whose last one was `last`; `None` at its end.
    fn field(&mut self, last: i64) -> io::Result<Option<(i64, u8)>> {
        let head = self.byte()?;
        Ok(match (head >> 4, head & 0xf) {
            (_, 0) => None,
            (0, kind) => Some((unzigzag(self.varint()?), kind)),
            (further, kind) => Some((last + i64::from(further), kind)),
        })
    }

    /// How many items a list has, and their type.
    fn list(&mut self) -> io::Result<(u64, u8)> {
        let head = self.byte()?;
        let count = if head >> 4 == 0xf { self.varint()? } else { u64::from(head >> 4) };
        Ok((count, head & 0xf))
    }

    /// Passes over a value; one of a field that is true or false takes no room.
    fn skip(&mut self, kind: u8, depth: u32) -> io::Result<()> {
        if depth > DEEPEST {
            return Err(invalid("its metadata is damaged"));
        }
        match kind {
            1 | 2 => Ok(()),
            3 => self.pass(1),
            4..=6 => self.varint().map(drop),
            7 => self.pass(8),
            8 => {
                let length = self.varint()?;
                self.pass(length)
            }
            LIST | 10 => {
                let (count, kind) = self.list()?;
                // True and false take a byte each in a list.
                let kind = if kind <= 2 { 3 } else { kind };
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

    fn pass(&mut self, count: u64) -> io::Result<()> {
        let passed = io::copy(&mut Read::by_ref(&mut self.bytes).take(count), &mut io::sink())?;
        self.at += passed;
        if passed == count { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

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

fn unzigzag(number: u64) -> i64 {
    (number >> 1).cast_signed() ^ -(number & 1).cast_signed()
}
