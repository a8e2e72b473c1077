//! Files, standard input and the sample: what is in them is found out from their first bytes.

use super::{
    Piece, Place, SAMPLE,
    bytes::{Meter, Metered},
    csv, lines, parquet,
};
use anyhow::{Context, bail, ensure};
use flate2::bufread::MultiGzDecoder;
use std::{
    fs::File,
    io::{self, BufRead, BufReader, Cursor, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    sync::mpsc::Receiver,
};
use xxhash_rust::xxh3::Xxh3;

/// Bytes read of a file at once.
const BUFFER: usize = 256 * 1024;

/// Bytes at either end of a file by which it is known again, together with its length.
const KNOWN_BY: u64 = 1024 * 1024;

const GZIP: [u8; 2] = [0x1f, 0x8b];
const PARQUET: &[u8] = b"PAR1";

/// A source that has been opened, and what is in it.
#[derive(Debug)]
pub(crate) struct Source {
    /// For people.
    pub(crate) name: String,
    /// The same for the same content, wherever it lies; `None` for what cannot be read again.
    pub(crate) identity: Option<String>,
    /// Its length as it lies on disk, where that is known.
    pub(crate) total_bytes: Option<u64>,
    pub(crate) meter: Meter,
    format: Format,
    origin: Origin,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Lines,
    Table,
    Parquet,
}

#[derive(Debug)]
enum Origin {
    Memory(&'static [u8]),
    File(PathBuf),
    Input,
}

/// Why a source could not be read to its end.
#[derive(Debug, thiserror::Error)]
#[error(
    "{name} is damaged near byte {byte}, after line {line} ({unpacked} unpacked): {cause}. What came before is kept"
)]
pub(crate) struct Damage {
    name: String,
    /// As the source lies on disk.
    byte: u64,
    line: u64,
    unpacked: u64,
    cause: io::Error,
}

impl Source {
    pub(crate) fn sample() -> Self {
        Self {
            name: "the built-in sample".to_owned(),
            identity: None,
            total_bytes: Some(SAMPLE.len() as u64),
            meter: Meter::default(),
            format: Format::Lines,
            origin: Origin::Memory(SAMPLE),
        }
    }

    /// JSON lines or a table, plain or packed.
    pub(crate) fn input() -> Self {
        Self {
            name: "standard input".to_owned(),
            identity: None,
            total_bytes: None,
            meter: Meter::default(),
            // Found out when it is read: it can be read once only.
            format: Format::Lines,
            origin: Origin::Input,
        }
    }

    pub(crate) fn file(path: &Path) -> anyhow::Result<Self> {
        let name = path.display().to_string();
        let opening = || format!("cannot read {name}");
        let mut file = File::open(path).with_context(opening)?;
        let metadata = file.metadata().with_context(opening)?;
        ensure!(metadata.is_file(), "{name} is not a file");
        ensure!(metadata.len() > 0, "{name} is empty");
        ensure!(
            path.extension().is_none_or(|extension| extension != "part"),
            "{name} is a download that is not whole yet: give its address again to go on with it"
        );
        let identity = identity(&mut file, metadata.len()).with_context(opening)?;
        file.seek(SeekFrom::Start(0)).with_context(opening)?;
        let mut start = Vec::new();
        Read::by_ref(&mut file).take(PARQUET.len() as u64).read_to_end(&mut start).with_context(opening)?;
        let format = if start == PARQUET {
            Format::Parquet
        } else {
            file.seek(SeekFrom::Start(0)).with_context(opening)?;
            let mut bytes = unpack(Box::new(BufReader::with_capacity(BUFFER, file))).with_context(opening)?;
            format_of(&name, &mut bytes)?
        };
        Ok(Self {
            name,
            identity: Some(identity),
            total_bytes: Some(metadata.len()),
            meter: Meter::default(),
            format,
            origin: Origin::File(path.to_owned()),
        })
    }

    /// Gives every piece from `start` on, until there are no more or nobody takes them.
    pub(crate) fn cut(
        self,
        start: Place,
        used: &Receiver<Vec<u8>>,
        mut give: impl FnMut(Piece) -> bool,
    ) -> Result<(), Damage> {
        let Self { name, total_bytes, meter, format, origin, .. } = self;
        let mut reached = start;
        let noting = |piece: Piece| {
            reached = piece.end;
            give(piece)
        };
        let cut = || -> io::Result<()> {
            let bytes: Box<dyn Read + Send> = match origin {
                Origin::Memory(bytes) => Box::new(bytes),
                Origin::Input => Box::new(io::stdin()),
                Origin::File(path) => {
                    let file = File::open(path)?;
                    if format == Format::Parquet {
                        let total = total_bytes.unwrap_or(0);
                        let on_group = |read: usize, of: usize| meter.set(total / of.max(1) as u64 * read as u64);
                        return parquet::cut(file, start, on_group, noting);
                    }
                    Box::new(file)
                }
            };
            let bytes = BufReader::with_capacity(BUFFER, Metered { inner: bytes, meter: meter.clone() });
            let mut bytes = unpack(Box::new(bytes))?;
            match format_of(&name, &mut bytes).map_err(io::Error::other)? {
                Format::Table => {
                    let header = first_line(&mut bytes)?;
                    csv::cut(Cursor::new(header.clone()).chain(bytes), &header, start, noting)
                }
                Format::Lines | Format::Parquet => lines::cut(bytes, start, used, noting),
            }
        };
        let outcome = cut();
        outcome.map_err(|cause| Damage {
            byte: meter.bytes(),
            name,
            line: reached.line,
            unpacked: reached.offset,
            cause,
        })
    }
}

/// Unpacks what is packed, in one member or several.
fn unpack(mut bytes: Box<dyn BufRead + Send>) -> io::Result<Box<dyn BufRead + Send>> {
    let is_packed = bytes.fill_buf()?.starts_with(&GZIP);
    Ok(if is_packed { Box::new(BufReader::with_capacity(BUFFER, MultiGzDecoder::new(bytes))) } else { bytes })
}

/// What `bytes` are, by their beginning.
fn format_of(name: &str, bytes: &mut impl BufRead) -> anyhow::Result<Format> {
    let start =
        bytes.fill_buf().with_context(|| format!("{name} cannot be unpacked: it is damaged at its first byte"))?;
    let text = start.trim_ascii_start();
    let line = text.split(|&byte| byte == b'\n').next().unwrap_or_default();
    if text.starts_with(b"{") || csv::is_header(line) {
        return Ok(if text.starts_with(b"{") { Format::Lines } else { Format::Table });
    }
    let found = match text.first() {
        None => "it holds no records",
        Some(b'<') => "it is a page of HTML or XML",
        Some(b'[') => "it is one JSON array",
        // Some dirt on the first line of a long file is no reason to refuse it all.
        Some(_) if start.contains(&b'{') => return Ok(Format::Lines),
        Some(_) => "its first bytes are none of these",
    };
    bail!(
        "{name} is no export of Open Food Facts: {found}. It should be JSON lines, a table with tabs whose first column is `code`, \
         or Parquet; the first two may be packed with gzip"
    )
}

/// The first line with its end.
fn first_line(bytes: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    bytes.take(KNOWN_BY).read_until(b'\n', &mut line)?;
    Ok(line)
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
