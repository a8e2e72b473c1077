//! JSON lines: an export file or the sample, streamed in batches, in flat memory whatever the length.

use crate::{
    product::{Product, Profile, Reject},
    record::Record,
    report::Report,
};
use anyhow::Context;
use flate2::read::MultiGzDecoder;
use std::{
    fs::File,
    io::{BufRead, BufReader, Read},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::sync::mpsc;

/// The most records in a batch.
const BATCH: u64 = 1000;

/// The longest line that is read; the longest real one is below 2 MiB.
const LONGEST_LINE: u64 = 16 * 1024 * 1024;

/// Some records, read and judged.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) products: Vec<Product>,
    /// What was read and what was rejected; what becomes of the products is for the catalogue to say.
    pub(crate) report: Report,
    /// Bytes of the source read so far, as it lies on disk.
    pub(crate) position: u64,
}

impl Batch {
    /// Judges one record.
    pub(crate) fn take(&mut self, record: Result<Record, Reject>, profile: Profile) {
        self.report.read += 1;
        match record.and_then(|record| Product::from_record(&record, profile)) {
            Ok(product) => self.products.push(product),
            Err(reason) => self.report.reject(reason),
        }
    }
}

/// Reads a file to its end, on a thread of its own, into `batches`.
pub(crate) fn read_file(
    path: &Path,
    profile: Profile,
    batches: mpsc::Sender<anyhow::Result<Batch>>,
) -> anyhow::Result<u64> {
    let opening = || format!("cannot read {}", path.display());
    let file = File::open(path).with_context(opening)?;
    let metadata = file.metadata().with_context(opening)?;
    anyhow::ensure!(metadata.is_file(), "{} is not a file", path.display());
    let position = Arc::new(AtomicU64::new(0));
    let mut bytes = BufReader::with_capacity(1 << 20, Counted { inner: file, position: position.clone() });
    let is_gzip = bytes.fill_buf().with_context(opening)?.starts_with(&[0x1f, 0x8b]);
    let lines: Box<dyn BufRead + Send> =
        if is_gzip { Box::new(BufReader::with_capacity(1 << 20, MultiGzDecoder::new(bytes))) } else { Box::new(bytes) };
    let name = path.display().to_string();
    std::thread::spawn(move || read_lines(lines, &name, &position, profile, &batches));
    Ok(metadata.len())
}

/// Reads lines that are in memory already.
pub(crate) fn read_memory(bytes: &'static [u8], profile: Profile, batches: mpsc::Sender<anyhow::Result<Batch>>) {
    std::thread::spawn(move || {
        let position = Arc::new(AtomicU64::new(0));
        let lines = BufReader::new(Counted { inner: bytes, position: position.clone() });
        read_lines(Box::new(lines), "the built-in sample", &position, profile, &batches);
    });
}

/// Ends when the lines do, when they cannot be read on, or when nobody takes the batches any more.
fn read_lines(
    mut lines: Box<dyn BufRead + Send>,
    name: &str,
    position: &AtomicU64,
    profile: Profile,
    batches: &mpsc::Sender<anyhow::Result<Batch>>,
) {
    let mut batch = Batch::default();
    let mut line = Vec::new();
    let mut number = 0_u64;
    loop {
        line.clear();
        let read = lines.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line);
        let at_end = match read {
            Ok(0) => true,
            Ok(_) => {
                number += 1;
                let too_long = line.len() as u64 == LONGEST_LINE && !line.ends_with(b"\n");
                if too_long {
                    batch.take(Err(Reject::TooLong), profile);
                    if lines.skip_until(b'\n').is_err() {
                        continue;
                    }
                } else if !line.trim_ascii().is_empty() {
                    batch.take(Record::read(&line).map_err(|_| Reject::NotJson), profile);
                }
                false
            }
            Err(error) => {
                let offset = position.load(Ordering::Relaxed);
                // What was sound before the damage is kept.
                let sound = batches.blocking_send(Ok(std::mem::take(&mut batch)));
                let damage =
                    format!("{name} is damaged near byte {offset}, after line {number}: what came before is loaded");
                if sound.is_ok() {
                    let _ = batches.blocking_send(Err(error).context(damage));
                }
                return;
            }
        };
        if at_end || batch.report.read >= BATCH {
            batch.position = position.load(Ordering::Relaxed);
            if batches.blocking_send(Ok(std::mem::take(&mut batch))).is_err() || at_end {
                return;
            }
        }
    }
}

/// Counts what is read of a source.
struct Counted<R> {
    inner: R,
    position: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.position.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}
