//! Opens exports and the sample: recognizes the format, and identifies the content for an import that resumes.

use super::{
    Contents, Damage,
    format::{Format, format_of},
    meter::Meter,
    parquet,
    unpack::{Text, unpack},
};
use anyhow::{Context, bail, ensure};
use chrono::{DateTime, Utc};
use std::{
    fs::{self, File},
    io::{self, BufRead, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

/// The built-in sample: a thousand invented products in the format of the JSONL export, including faulty ones.
const SAMPLE: &[u8] = include_bytes!("../../sample/products.jsonl");

/// Bytes at either end of a file that identify it, together with its length. That is enough for a compressed file,
/// whose last bytes are a checksum of all its content. A plain file that was changed only in between, to the same
/// length, is taken for the same one; that matters only while its import is unfinished.
const HASHED_BYTES: u64 = 1024 * 1024;

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

/// An opened source.
pub(crate) struct Source {
    /// Name for display.
    pub(crate) name: String,
    /// Identifies the content, in whatever folder the file is; `None` for a source that cannot be read again.
    pub(crate) identity: Option<String>,
    /// Length in bytes, compressed as on disk, if known.
    pub(crate) total_bytes: Option<u64>,
    /// Counts the bytes that were read.
    pub(crate) meter: Meter,
    /// Up to when the catalog has all changes after the import.
    pub(crate) freshness: Freshness,
    /// The format by its first bytes.
    pub(super) format: Format,
    /// Where its bytes come from.
    pub(super) origin: Origin,
}

/// Where the bytes of a source come from.
pub(super) enum Origin {
    /// Bytes of this program.
    Memory(&'static [u8]),
    /// A file, which is opened again to be read.
    File(PathBuf),
    /// Decompressed text, from its beginning.
    Input(Box<dyn BufRead + Send>),
}

impl Source {
    /// The built-in sample.
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
        let Text { start, bytes } = open(&name, bytes, Contents::Products, &meter)?;
        let format = format_of(&name, &start, Contents::Products)?;
        let origin = Origin::Input(bytes);
        Ok(Self { name, identity: None, total_bytes: None, meter, freshness: Freshness::Newest, format, origin })
    }

    /// A file with any export of products. Fails if it is none, and says what it is instead.
    pub(crate) fn file(path: &Path) -> anyhow::Result<Self> {
        Self::file_with(path, Contents::Products)
    }

    /// The same for an export of prices.
    pub(crate) fn prices(path: &Path) -> anyhow::Result<Self> {
        Self::file_with(path, Contents::Prices)
    }

    fn file_with(path: &Path, contents: Contents) -> anyhow::Result<Self> {
        let name = path.display().to_string();
        let opening = || format!("cannot read {name}");
        // Checked before the file is opened, because opening a pipe blocks until it has a writer.
        let kind = fs::metadata(path).with_context(opening)?.file_type();
        ensure!(!kind.is_dir(), "{name} is a folder: name a file in it");
        ensure!(kind.is_file(), "{name} is a pipe or a device: {}", contents.hint_for_pipe(&name));
        let mut file = File::open(path).with_context(opening)?;
        let metadata = file.metadata().with_context(opening)?;
        ensure!(metadata.len() > 0, "{name} is empty");
        ensure!(
            path.extension().is_none_or(|extension| extension != "part"),
            "{name} is an incomplete download: pass its URL again to resume it"
        );
        let identity = identity(&mut file, metadata.len()).with_context(opening)?;
        let format = format_of_file(&name, file, contents)?;
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
}

/// The format of a file. Fails if it is no export, or is Parquet that cannot be read.
fn format_of_file(name: &str, mut file: File, contents: Contents) -> anyhow::Result<Format> {
    let opening = || format!("cannot read {name}");
    file.seek(SeekFrom::Start(0)).with_context(opening)?;
    let mut start = Vec::new();
    Read::by_ref(&mut file).take(parquet::MAGIC.len() as u64).read_to_end(&mut start).with_context(opening)?;
    if start == parquet::MAGIC {
        return match parquet::unreadable(&file, contents) {
            Some(reason) => bail!("{name} cannot be read: {reason}"),
            None => Ok(Format::Parquet),
        };
    }
    file.seek(SeekFrom::Start(0)).with_context(opening)?;
    format_of(name, &open(name, file, contents, &Meter::default())?.start, contents)
}

/// Opens the text in `bytes`. Fails with damage if its beginning cannot be read.
fn open(name: &str, bytes: impl Read + Send + 'static, contents: Contents, meter: &Meter) -> Result<Text, Damage> {
    unpack(bytes, meter).map_err(|cause| Damage {
        name: name.to_owned(),
        byte: meter.bytes(),
        reached: 0,
        unit: "line",
        cause,
        effect: contents.effect_of_damage(),
    })
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
    use std::io::{Cursor, Write};

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
