//! One thread cuts a source into chunks, others validate them. Validated chunks keep the order of the source.

use crate::{
    choice::Choice,
    correction::{Corrections, tag},
    filter::Filter,
    product::{self, Product, Withdrawal},
    profile::Profile,
    record::Record,
    reject::Reject,
    source::{Broken, Chunk, Content, Damage, Place, Source},
};
use anyhow::{anyhow, ensure};
use chrono::{DateTime, Utc};
use off_kit::Clock;
use std::{
    sync::{Arc, Mutex, mpsc as threads},
    thread::{self, JoinHandle},
};
use tokio::sync::mpsc;

/// Chunks that may wait for the consumer. A validated chunk holds little more than its products.
const MAX_UNREAD_CHUNKS: usize = 64;

/// Chunks that may wait for a validating thread. Each holds its text: 256 KiB, seldom up to 4 MiB.
const MAX_QUEUED_CHUNKS: usize = 4;

/// Capacity of a buffer that is reused, in bytes.
const MAX_REUSED_CAPACITY: usize = 1024 * 1024;

/// Barcodes of rejected records are cut to this length, in characters.
const MAX_CODE_LENGTH: usize = 40;

/// Parts of a chunk that may wait for the consumer. Lines are one part; a row group of Parquet is one part per 256
/// rows.
const MAX_UNREAD_PARTS: usize = 8;

/// The outcome of a record.
#[derive(Debug)]
pub(crate) enum Outcome {
    Product(Box<Validated>),
    Rejected(Rejected),
    FilteredOut,
}

/// A record that cannot become a product.
#[derive(Debug)]
pub(crate) struct Rejected {
    pub(crate) reason: Reject,
    /// The barcode as written; `None` unless rejects are kept.
    pub(crate) code: Option<String>,
    /// Marks a product that the catalog may have as no longer sold.
    pub(crate) withdrawal: Option<Withdrawal>,
}

/// A product that is ready to be merged.
#[derive(Debug)]
pub(crate) struct Validated {
    pub(crate) product: Product,
    pub(crate) fingerprint: i64,
    pub(crate) corrections: Corrections,
}

/// A chunk, or a part of one, whose records have been validated.
#[derive(Debug)]
pub(crate) struct ValidatedChunk {
    /// Where the source continues.
    pub(crate) end: Place,
    /// Each outcome with its line.
    pub(crate) outcomes: Vec<(u64, Outcome)>,
    /// When the most recently changed record changed, whatever its outcome.
    pub(crate) newest: Option<DateTime<Utc>>,
}

impl ValidatedChunk {
    /// A chunk without records that ends at `end`.
    pub(crate) fn new(end: Place) -> Self {
        Self { end, outcomes: Vec::new(), newest: None }
    }

    /// Validates the record in `line`.
    pub(crate) fn validate(&mut self, rules: &Rules, line: u64, record: Result<Record, Reject>) {
        // A time in the future is an error and does not tell how fresh the source is.
        let changed = record.as_ref().ok().and_then(product::changed).filter(|changed| *changed <= rules.now);
        self.newest = self.newest.max(changed);
        self.outcomes.push((line, rules.validate(record)));
    }
}

/// The rules by which records are validated.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    pub(crate) profile: Profile,
    pub(crate) filter: Filter,
    /// Whether to keep the barcodes of rejected records.
    pub(crate) keep_codes: bool,
    pub(crate) now: DateTime<Utc>,
}

impl Rules {
    /// The rules for the records that `choice` selects, as of now.
    pub(crate) fn of(choice: &Choice) -> Self {
        Self {
            profile: choice.profile,
            filter: choice.filter.clone(),
            keep_codes: choice.keep_rejects,
            now: Clock::real(1.0).now(),
        }
    }

    fn validate(&self, record: Result<Record, Reject>) -> Outcome {
        let record = match record {
            Ok(record) if self.filter.matches(&record) => record,
            Ok(_) => return Outcome::FilteredOut,
            Err(reason) => return Outcome::Rejected(Rejected { reason, code: None, withdrawal: None }),
        };
        match Product::from_record(&record, self.profile) {
            Ok((product, corrections)) => {
                Outcome::Product(Box::new(Validated { fingerprint: product.fingerprint(), product, corrections }))
            }
            Err(reason) => {
                let code = record.code.text().filter(|_| self.keep_codes);
                let code = code.map(|code| tag(&code, MAX_CODE_LENGTH, &mut Corrections::default()));
                Outcome::Rejected(Rejected { reason, code, withdrawal: Withdrawal::of(&record) })
            }
        }
    }

    /// Validates `chunk` and sends it part by part. Returns its buffer for reuse.
    fn validate_chunk(&self, chunk: Chunk, mut send: impl FnMut(Part) -> bool) -> Option<Vec<u8>> {
        let Chunk { start, end, content } = chunk;
        let mut validated = ValidatedChunk::new(end);
        let buffer = match content {
            Content::Lines(bytes) => {
                for (line, number) in bytes.split(|&byte| byte == b'\n').zip(start.line + 1..) {
                    if !line.trim_ascii().is_empty() {
                        validated.validate(self, number, Record::read(line).map_err(|_| Reject::NotJson));
                    }
                }
                Some(bytes)
            }
            Content::TooLong => {
                validated.validate(self, start.line + 1, Err(Reject::TooLong));
                None
            }
            Content::Rows(header, bytes) => {
                header.read(&bytes, |line, record| {
                    validated.validate(self, start.line + 1 + line, record.ok_or(Reject::BadRow));
                });
                Some(bytes)
            }
            Content::Group(group) => {
                let mut row = start.line;
                let outcome = group.read(|records| {
                    let end = row + records.len() as u64;
                    let mut validated = ValidatedChunk::new(Place { offset: end, line: end });
                    for record in records {
                        row += 1;
                        validated.validate(self, row, Ok(record));
                    }
                    send(Ok(validated))
                });
                if let Err(broken) = outcome {
                    send(Err(broken));
                }
                return None;
            }
        };
        send(Ok(validated));
        buffer.filter(|buffer| buffer.capacity() <= MAX_REUSED_CAPACITY)
    }
}

/// A validated part of a chunk, or the damage that ends the source.
type Part = Result<ValidatedChunk, Broken>;

/// The validated chunks of a source, in their order.
#[derive(Debug)]
pub(crate) struct Pipeline {
    name: String,
    unit: &'static str,
    /// For each chunk a channel with its parts, and where it ends.
    chunks: mpsc::Receiver<(mpsc::Receiver<Part>, Place)>,
    /// The chunk that is being received.
    parts: Option<(mpsc::Receiver<Part>, Place)>,
    reached: Place,
    broken: Option<Broken>,
    reader: JoinHandle<Result<(), Broken>>,
}

impl Pipeline {
    /// Starts to read `source` at `start`.
    pub(crate) fn start(source: Source, start: Place, rules: Rules) -> Self {
        let (ordered, chunks) = mpsc::channel(MAX_UNREAD_CHUNKS);
        let (work, queue) = threads::sync_channel::<(Chunk, mpsc::Sender<Part>)>(MAX_QUEUED_CHUNKS);
        let (return_buffer, used_buffers) = threads::channel();
        let queue = Arc::new(Mutex::new(queue));
        let rules = Arc::new(rules);
        for _ in 0..thread::available_parallelism().map_or(2, usize::from) {
            let (queue, rules, return_buffer) = (queue.clone(), rules.clone(), return_buffer.clone());
            thread::spawn(move || {
                loop {
                    // The lock is held while receiving: the other threads wait for it as they would for a chunk.
                    let next = queue.lock().map(|queue| queue.recv());
                    let Ok(Ok((chunk, parts))) = next else { return };
                    // Sending fails when the import has ended, which ends this chunk early.
                    let buffer = rules.validate_chunk(chunk, |part| parts.blocking_send(part).is_ok());
                    if let Some(buffer) = buffer {
                        let _ = return_buffer.send(buffer);
                    }
                }
            });
        }
        let (name, unit) = (source.name.clone(), source.unit());
        let reader = thread::spawn(move || {
            source.cut(start, &used_buffers, |chunk| {
                let (parts, validated) = mpsc::channel(MAX_UNREAD_PARTS);
                ordered.blocking_send((validated, chunk.end)).is_ok() && work.send((chunk, parts)).is_ok()
            })
        });
        Self { name, unit, chunks, parts: None, reached: start, broken: None, reader }
    }

    /// The next chunk or part of a chunk; `None` after the last.
    pub(crate) async fn next(&mut self) -> anyhow::Result<Option<ValidatedChunk>> {
        loop {
            let Some((parts, end)) = &mut self.parts else {
                self.parts = self.chunks.recv().await;
                if self.parts.is_none() {
                    return Ok(None);
                }
                continue;
            };
            match parts.recv().await {
                Some(Ok(chunk)) => {
                    self.reached = chunk.end;
                    return Ok(Some(chunk));
                }
                Some(Err(broken)) => {
                    self.broken = Some(broken);
                    return Ok(None);
                }
                None => {
                    // Fails on a missing part, because the import would store it as read.
                    ensure!(self.reached == *end, "a thread that validates records has panicked");
                    self.parts = None;
                }
            }
        }
    }

    /// Returns the damage that ended the source, if any. Call it after the last chunk.
    pub(crate) fn end(self) -> anyhow::Result<Option<Damage>> {
        let Self { name, unit, chunks, reached, broken, reader, .. } = self;
        // Stops the reader, which may still be sending chunks after the damage.
        drop(chunks);
        let outcome = reader.join().map_err(|_| anyhow!("the thread that reads the source has panicked"))?;
        let broken = broken.or_else(|| outcome.err());
        Ok(broken.map(|Broken { byte, cause }| Damage { name, byte, reached: reached.line, unit, cause }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Error, Read, Result};

    /// Yields `lines`, then the result of `end`.
    struct Lines<F> {
        lines: &'static [u8],
        end: F,
    }

    impl<F: Fn() -> Result<usize>> Read for Lines<F> {
        fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
            let read = self.lines.read(buffer)?;
            if read > 0 { Ok(read) } else { (self.end)() }
        }
    }

    /// The number of records that were read, and the end of the pipeline.
    async fn read(end: fn() -> Result<usize>) -> (usize, anyhow::Result<Option<Damage>>) {
        let source = Source::stream("it", Lines { lines: b"{}\n{}\n", end }).unwrap();
        let rules =
            Rules { profile: Profile::All, filter: Filter::default(), keep_codes: false, now: DateTime::default() };
        let mut pipeline = Pipeline::start(source, Place::default(), rules);
        let mut records = 0;
        while let Some(chunk) = pipeline.next().await.unwrap() {
            records += chunk.outcomes.len();
        }
        (records, pipeline.end())
    }

    #[tokio::test]
    async fn end_damage_and_panic_are_distinguished() {
        let (records, end) = read(|| Ok(0)).await;
        assert!(records == 2 && matches!(end, Ok(None)));
        let (records, end) = read(|| Err(Error::other("it broke"))).await;
        let damage = end.unwrap().unwrap().to_string();
        assert!(records == 2 && damage.contains("near byte 6, after line 2: it broke"), "{damage}");
        let (_, end) = read(|| panic!("as a reader of a strange file might")).await;
        assert!(end.unwrap_err().to_string().contains("panicked"));
    }
}
