//! Files, standard input and the sample: what is in them is found out from their first bytes.

use super::{
    Broken, Damage, Piece, Place, SAMPLE,
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

/// Bytes read of a file at once.
const BUFFER: usize = 256 * 1024;

/// Bytes at either end of a file by which it is known again, together with its length. That is enough for what is packed, whose
/// last bytes are a checksum of it all; a plain file that was changed in between, to the same length, is known again only as
/// long as its import is not finished.
const KNOWN_BY: u64 = 1024 * 1024;

/// What some tools put before text in UTF-8.
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// A source that has been opened, and what is in it.
pub(crate) struct Source {
    /// For people.
    pub(crate) name: String,
    /// The same for the same content, wherever it lies; `None` for what cannot be read again.
    pub(crate) identity: Option<String>,
    /// Its length as it lies on disk, where that is known.
    pub(crate) total_bytes: Option<u64>,
    pub(crate) meter: Meter,
    pub(crate) freshness: Freshness,
    format: Format,
    origin: Origin,
}

/// How fresh a catalogue is that has all of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Freshness {
    /// It says nothing of that.
    Unknown,
    /// It has every change up to the newest one in the source.
    Newest,
    /// It has every change up to this time.
    Until(DateTime<Utc>),
}

enum Origin {
    Memory(&'static [u8]),
    File(PathBuf),
    /// Unpacked, from its beginning.
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

    /// JSON lines or a table, plain or packed; waits for the first bytes.
    pub(crate) fn input() -> anyhow::Result<Self> {
        Self::stream("standard input", io::stdin())
    }

    /// What can be read once only.
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
        // Asked before it is opened: that waits for who writes into a pipe.
        let kind = fs::metadata(path).with_context(opening)?.file_type();
        ensure!(!kind.is_dir(), "{name} is a folder: name a file in it");
        ensure!(
            kind.is_file(),
            "{name} is a pipe or a device: `-` reads what comes from it, as in `off-etl - < {name}`"
        );
        let mut file = File::open(path).with_context(opening)?;
        let metadata = file.metadata().with_context(opening)?;
        ensure!(metadata.len() > 0, "{name} is empty");
        ensure!(
            path.extension().is_none_or(|extension| extension != "part"),
            "{name} is a download that is not whole yet: give its address again to go on with it"
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

    /// What its records are counted in.
    pub(crate) fn unit(&self) -> &'static str {
        if self.format == Format::Parquet { "row" } else { "line" }
    }

    /// Gives every piece from `start` on, until there are no more or nobody takes them.
    pub(crate) fn cut(
        self,
        start: Place,
        used: &Receiver<Vec<u8>>,
        give: impl FnMut(Piece) -> bool,
    ) -> Result<(), Broken> {
        let Self { total_bytes, meter, format, origin, .. } = self;
        if let (Origin::File(path), Format::Parquet) = (&origin, format) {
            let total = total_bytes.unwrap_or(0);
            // How far it is by its bytes is a guess: the columns of a group lie one after the other.
            let share = |rows: u64, all: u64| rows as f64 / all.max(1) as f64;
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a length")]
            let on_rows = |rows, all| meter.set((total as f64 * share(rows, all)) as u64);
            // What comes of a group is told where that is read; the rest is at the end.
            let cut = File::open(path).and_then(|file| parquet::cut(file, start, on_rows, give));
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
                return text::cut(bytes, Rows(Arc::new(Header::of(&line))), start, used, give);
            }
            text::skip(&mut bytes, start.offset)?;
            text::cut(bytes, Lines, start, used, give)
        };
        cut().map_err(|cause| Broken { byte: meter.bytes(), cause })
    }
}

/// A text and its beginning, by which it is known what it is.
struct Text {
    start: Vec<u8>,
    /// All of it.
    bytes: Box<dyn BufRead + Send>,
}

/// The text in what is called `name`; damage where not even its beginning can be read.
fn open(name: &str, bytes: impl Read + Send + 'static, meter: &Meter) -> Result<Text, Damage> {
    unpack(bytes, meter).map_err(|cause| Damage {
        name: name.to_owned(),
        byte: meter.bytes(),
        reached: 0,
        unit: "line",
        cause,
    })
}

/// The text in `bytes`, unpacked where it is packed, without a byte order mark.
fn unpack(bytes: impl Read + Send + 'static, meter: &Meter) -> io::Result<Text> {
    let mut bytes = Metered { inner: BufReader::with_capacity(BUFFER, bytes), meter: meter.clone() };
    let mut magic = Vec::new();
    Read::by_ref(&mut bytes).take(MAGIC.len() as u64).read_to_end(&mut magic)?;
    let is_packed = magic.starts_with(&MAGIC);
    let bytes = Cursor::new(magic).chain(bytes);
    let mut text: Box<dyn BufRead + Send> =
        if is_packed { Box::new(BufReader::with_capacity(BUFFER, Gunzip::new(bytes))) } else { Box::new(bytes) };
    // Of a document that goes on in its second line that one is needed, too.
    let is_enough = |start: &[u8]| {
        let line_feeds = memchr::memchr_iter(b'\n', start.trim_ascii_start()).count();
        line_feeds > 1 || start.len() >= BUFFER || start.windows(2).any(|pair| pair == b"}\n")
    };
    let mut start = peek(&mut text, is_enough)?;
    if start.starts_with(BYTE_ORDER_MARK) {
        start.drain(..BYTE_ORDER_MARK.len());
    }
    Ok(Text { bytes: Box::new(Cursor::new(start.clone()).chain(text)), start })
}

/// The first bytes of a source, as many as are enough, or all there are: whoever writes into a pipe may write one by one.
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

/// The first line of a table that is not blank, and where it ends.
fn header(bytes: &mut impl BufRead) -> io::Result<(Vec<u8>, Place)> {
    let mut end = Place::default();
    loop {
        let mut line = Vec::new();
        let read = Read::by_ref(bytes).take(KNOWN_BY).read_until(b'\n', &mut line)?;
        end = Place { offset: end.offset + read as u64, line: end.line + 1 };
        if read == 0 || !line.trim_ascii().is_empty() {
            return Ok((line, end));
        }
    }
}

fn identity(file: &mut File, length: u64) -> io::Result<String> {
    let mut hash = Xxh3::new();
    for start in [0, length.saturating_sub(KNOWN_BY)] {
        file.seek(SeekFrom::Start(start))?;
        let mut bytes = Vec::new();
        Read::by_ref(file).take(KNOWN_BY).read_to_end(&mut bytes)?;
        hash.update(&bytes);
    }
    Ok(format!("file of {length} bytes, xxh3 {:016x}", hash.digest()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, write::GzEncoder};
    use std::io::Write;

    /// Gives a byte at a time, as somebody may write into a pipe.
    struct Dripping(Cursor<Vec<u8>>);

    impl Read for Dripping {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let most = buffer.len().min(1);
            self.0.read(&mut buffer[..most])
        }
    }

    #[test]
    fn what_comes_byte_by_byte_is_recognised() {
        let mut packed = GzEncoder::new(Vec::new(), Compression::default());
        packed.write_all(b"\ncode\tproduct_name\n1\tTea\n").unwrap();
        let sources = [
            (b"\n {\"code\": 1}".to_vec(), Format::Lines),
            (b"\xef\xbb\xbf{}".to_vec(), Format::Lines),
            (b"code\tproduct_name\n".to_vec(), Format::Table),
            (packed.finish().unwrap(), Format::Table),
        ];
        for (bytes, format) in sources {
            let source = Source::stream("it", Dripping(Cursor::new(bytes))).unwrap();
            assert_eq!(source.format, format);
        }
        assert!(Source::stream("it", Dripping(Cursor::default())).is_err());
    }
}
