//! Files, standard input and the sample. The first bytes decide the format.

use super::{
    Broken, Chunk, Damage, Place, SAMPLE,
    bytes::{Meter, Metered},
    format::{Format, format_of},
    gunzip::{Gunzip, MAGIC},
    lines::Lines,
    parquet,
    table::{Header, Rows},
    text,
};
use anyhow::{Context, bail, ensure};
use chrono::{DateTime, Utc};
use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader, Cursor, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    sync::{Arc, mpsc::Receiver},
};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

/// Size of the read buffer, in bytes.
const BUFFER_SIZE: usize = 256 * 1024;

/// Bytes at either end of a file that identify it, together with its length. That is enough for a compressed file,
/// whose last bytes are a checksum of all its content. A plain file that was changed only in between, to the same
/// length, is taken for the same one; that matters only while its import is unfinished.
const HASHED_BYTES: u64 = 1024 * 1024;

/// Some tools write it at the start of text in UTF-8.
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// An opened source.
pub(crate) struct Source {
    /// Name for display.
    pub(crate) name: String,
    /// Identifies the content, wherever the file lies; `None` for a source that cannot be read again.
    pub(crate) identity: Option<String>,
    /// Length in bytes, compressed as on disk, if known.
    pub(crate) total_bytes: Option<u64>,
    pub(crate) meter: Meter,
    pub(crate) freshness: Freshness,
    format: Format,
    origin: Origin,
}

/// Up to when a catalog has all changes after it imported a whole source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Freshness {
    /// Unknown.
    Unknown,
    /// Up to the newest change in the source.
    Newest,
    /// Up to this time.
    Until(DateTime<Utc>),
}

enum Origin {
    Memory(&'static [u8]),
    File(PathBuf),
    /// Decompressed text, from its beginning.
    Input(Box<dyn BufRead + Send>),
}

impl Source {
    pub(crate) fn sample() -> Self {
        Self {
            name: "the built-in sample".to_owned(),
            identity: Some(format!("sample, xxh3 {:016x}", xxh3_64(SAMPLE))),
            total_bytes: Some(SAMPLE.len() as u64),
            meter: Meter::default(),
            freshness: Freshness::Unknown,
            format: Format::Lines,
            origin: Origin::Memory(SAMPLE),
        }
    }

    /// JSON lines or a table on standard input, plain or compressed. Blocks until the first bytes arrive.
    pub(crate) fn input() -> anyhow::Result<Self> {
        Self::stream("standard input", io::stdin())
    }

    /// A source that can be read only once.
    pub(crate) fn stream(name: &str, bytes: impl Read + Send + 'static) -> anyhow::Result<Self> {
        let (name, meter) = (name.to_owned(), Meter::default());
        let Text { start, bytes } = open(&name, bytes, &meter)?;
        let format = format_of(&name, &start)?;
        let origin = Origin::Input(bytes);
        Ok(Self { name, identity: None, total_bytes: None, meter, freshness: Freshness::Newest, format, origin })
    }

    pub(crate) fn file(path: &Path) -> anyhow::Result<Self> {
        let name = path.display().to_string();
        let opening = || format!("cannot read {name}");
        // Checked before the file is opened, because opening a pipe blocks until it has a writer.
        let kind = fs::metadata(path).with_context(opening)?.file_type();
        ensure!(!kind.is_dir(), "{name} is a folder: name a file in it");
        ensure!(kind.is_file(), "{name} is a pipe or a device: `-` reads standard input, as in `off-etl - < {name}`");
        let mut file = File::open(path).with_context(opening)?;
        let metadata = file.metadata().with_context(opening)?;
        ensure!(metadata.len() > 0, "{name} is empty");
        ensure!(
            path.extension().is_none_or(|extension| extension != "part"),
            "{name} is an incomplete download: pass its URL again to resume it"
        );
        let identity = identity(&mut file, metadata.len()).with_context(opening)?;
        file.seek(SeekFrom::Start(0)).with_context(opening)?;
        let mut start = Vec::new();
        Read::by_ref(&mut file).take(parquet::MAGIC.len() as u64).read_to_end(&mut start).with_context(opening)?;
        let format = if start == parquet::MAGIC {
            if let Some(reason) = parquet::unreadable(&file) {
                bail!("{name} cannot be read: {reason}");
            }
            Format::Parquet
        } else {
            file.seek(SeekFrom::Start(0)).with_context(opening)?;
            format_of(&name, &open(&name, file, &Meter::default())?.start)?
        };
        Ok(Self {
            name,
            identity: Some(identity),
            total_bytes: Some(metadata.len()),
            meter: Meter::default(),
            freshness: Freshness::Newest,
            format,
            origin: Origin::File(path.to_owned()),
        })
    }

    /// What the position of a record is counted in.
    pub(crate) fn unit(&self) -> &'static str {
        if self.format == Format::Parquet { "row" } else { "line" }
    }

    /// Passes every chunk from `start` on to `emit`, until the source ends or `emit` returns false.
    pub(crate) fn cut(
        self,
        start: Place,
        used_buffers: &Receiver<Vec<u8>>,
        emit: impl FnMut(Chunk) -> bool,
    ) -> Result<(), Broken> {
        let Self { total_bytes, meter, format, origin, .. } = self;
        if let (Origin::File(path), Format::Parquet) = (&origin, format) {
            let total = total_bytes.unwrap_or(0);
            // The progress in bytes is estimated from rows, because a group is stored column by column.
            let share = |rows: u64, all: u64| rows as f64 / all.max(1) as f64;
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a length")]
            let on_rows = |rows, all| meter.set((total as f64 * share(rows, all)) as u64);
            // Damage in a group is reported by its reader; any other damage is in the metadata at the end of the file.
            let cut = File::open(path).and_then(|file| parquet::cut(file, start, on_rows, emit));
            return cut.map_err(|cause| Broken { byte: total, cause });
        }
        let cut = || {
            let mut bytes = match origin {
                Origin::Memory(bytes) => unpack(bytes, &meter)?.bytes,
                Origin::Input(bytes) => bytes,
                Origin::File(path) => unpack(File::open(path)?, &meter)?.bytes,
            };
            if format == Format::Table {
                let (line, end) = header(&mut bytes)?;
                let start = if start == Place::default() { end } else { start };
                text::skip(&mut bytes, start.offset - end.offset)?;
                return text::cut(bytes, Rows(Arc::new(Header::of(&line))), start, used_buffers, emit);
            }
            text::skip(&mut bytes, start.offset)?;
            text::cut(bytes, Lines, start, used_buffers, emit)
        };
        cut().map_err(|cause| Broken { byte: meter.bytes(), cause })
    }
}

/// A text and its beginning, which decides the format.
struct Text {
    start: Vec<u8>,
    /// The whole text, including `start`.
    bytes: Box<dyn BufRead + Send>,
}

/// Opens the text in `bytes`. Fails with damage if its beginning cannot be read.
fn open(name: &str, bytes: impl Read + Send + 'static, meter: &Meter) -> Result<Text, Damage> {
    unpack(bytes, meter).map_err(|cause| Damage {
        name: name.to_owned(),
        byte: meter.bytes(),
        reached: 0,
        unit: "line",
        cause,
    })
}

/// The text in `bytes`, decompressed if necessary, without a byte order mark.
fn unpack(bytes: impl Read + Send + 'static, meter: &Meter) -> io::Result<Text> {
    let mut bytes = Metered { inner: BufReader::with_capacity(BUFFER_SIZE, bytes), meter: meter.clone() };
    let mut magic = Vec::new();
    Read::by_ref(&mut bytes).take(MAGIC.len() as u64).read_to_end(&mut magic)?;
    let is_packed = magic.starts_with(&MAGIC);
    let bytes = Cursor::new(magic).chain(bytes);
    let mut text: Box<dyn BufRead + Send> =
        if is_packed { Box::new(BufReader::with_capacity(BUFFER_SIZE, Gunzip::new(bytes))) } else { Box::new(bytes) };
    // The second line is needed to recognize a JSON document over many lines.
    let is_enough = |start: &[u8]| {
        let line_feeds = memchr::memchr_iter(b'\n', start.trim_ascii_start()).count();
        line_feeds > 1 || start.len() >= BUFFER_SIZE || start.windows(2).any(|pair| pair == b"}\n")
    };
    let mut start = peek(&mut text, is_enough)?;
    if start.starts_with(BYTE_ORDER_MARK) {
        start.drain(..BYTE_ORDER_MARK.len());
    }
    Ok(Text { bytes: Box::new(Cursor::new(start.clone()).chain(text)), start })
}

/// Reads the first bytes of a source until they are enough or the source ends. A pipe may deliver them one by one.
fn peek(bytes: &mut impl BufRead, is_enough: impl Fn(&[u8]) -> bool) -> io::Result<Vec<u8>> {
    let mut start = Vec::new();
    while !is_enough(&start) {
        let more = bytes.fill_buf()?;
        if more.is_empty() {
            break;
        }
        start.extend_from_slice(more);
        let length = more.len();
        bytes.consume(length);
    }
    Ok(start)
}

/// The first line of a table that is not blank, and the position after it.
fn header(bytes: &mut impl BufRead) -> io::Result<(Vec<u8>, Place)> {
    let mut end = Place::default();
    loop {
        let mut line = Vec::new();
        let read = Read::by_ref(bytes).take(HASHED_BYTES).read_until(b'\n', &mut line)?;
        end = Place { offset: end.offset + read as u64, line: end.line + 1 };
        if read == 0 || !line.trim_ascii().is_empty() {
            return Ok((line, end));
        }
    }
}

/// The identity of a file: its length and a hash of both its ends.
fn identity(file: &mut File, length: u64) -> io::Result<String> {
    let mut hash = Xxh3::new();
    for start in [0, length.saturating_sub(HASHED_BYTES)] {
        file.seek(SeekFrom::Start(start))?;
        let mut bytes = Vec::new();
        Read::by_ref(file).take(HASHED_BYTES).read_to_end(&mut bytes)?;
        hash.update(&bytes);
    }
    Ok(format!("file of {length} bytes, xxh3 {:016x}", hash.digest()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, write::GzEncoder};
    use std::io::Write;

    /// Yields one byte per read, as a pipe may.
    struct OneByteReader(Cursor<Vec<u8>>);

    impl Read for OneByteReader {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let length = buffer.len().min(1);
            self.0.read(&mut buffer[..length])
        }
    }

    #[test]
    fn formats_are_recognized_when_bytes_arrive_one_by_one() {
        let mut packed = GzEncoder::new(Vec::new(), Compression::default());
        packed.write_all(b"\ncode\tproduct_name\n1\tTea\n").unwrap();
        let sources = [
            (b"\n {\"code\": 1}".to_vec(), Format::Lines),
            (b"\xef\xbb\xbf{}".to_vec(), Format::Lines),
            (b"code\tproduct_name\n".to_vec(), Format::Table),
            (packed.finish().unwrap(), Format::Table),
        ];
        for (bytes, format) in sources {
            let source = Source::stream("it", OneByteReader(Cursor::new(bytes))).unwrap();
            assert_eq!(source.format, format);
        }
        assert!(Source::stream("it", OneByteReader(Cursor::default())).is_err());
    }
}
