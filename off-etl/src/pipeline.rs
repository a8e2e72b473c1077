//! One thread cuts a source into chunks, others validate them. Validated chunks keep the order of the source.

use crate::{
    source::{Broken, Chunk, Contents, Damage, Place, Source},
    validation::{Part, Rules, ValidatedChunk},
};
use anyhow::{anyhow, ensure};
use std::{
    sync::{Arc, Mutex, mpsc as threads},
    thread::{self, JoinHandle},
};
use tokio::sync::mpsc;

/// Chunks that may wait for the consumer. A validated chunk holds little more than its products.
const MAX_UNREAD_CHUNKS: usize = 64;

/// Chunks that may wait for a validating thread. Each holds its text: 256 KiB, seldom up to 4 MiB.
const MAX_QUEUED_CHUNKS: usize = 4;

/// Parts of a chunk that may wait for the consumer. Text is one part; a row group of Parquet has a part per 256 rows.
const MAX_UNREAD_PARTS: usize = 8;

/// The validated chunks of a source, in their order.
#[derive(Debug)]
pub(crate) struct Pipeline {
    name: String,
    unit: &'static str,
    /// For each chunk a channel with its parts, and where it ends.
    chunks: mpsc::Receiver<(mpsc::Receiver<Part>, Place)>,
    /// The chunk that is being received.
    parts: Option<(mpsc::Receiver<Part>, Place)>,
    /// Where the last chunk or part that was received ends.
    reached: Place,
    /// The damage of a chunk that was received.
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
        Ok(broken.map(|Broken { byte, cause }| Damage {
            name,
            byte,
            reached: reached.line,
            unit,
            cause,
            effect: Contents::Products.effect_of_damage(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{filter::Filter, profile::Profile};
    use chrono::DateTime;
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
