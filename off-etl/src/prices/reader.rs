//! Reads the prices of a source on a thread of its own.

use super::{Price, PriceReject};
use crate::source::{Broken, Chunk, Contents, Damage, Place, Source};
use anyhow::anyhow;
use chrono::NaiveDate;
use std::{
    mem,
    sync::mpsc::channel,
    thread::{self, JoinHandle},
};
use tokio::sync::mpsc;

/// Prices in a part. A row group of Parquet may have a million.
const PART_PRICES: usize = 1000;

/// Parts that may wait for the consumer.
const MAX_UNREAD_PARTS: usize = 16;

/// Prices with their lines, or why they are not valid.
type Part = Vec<(u64, Result<Price, PriceReject>)>;

/// The prices of a source, in their order.
#[derive(Debug)]
pub(super) struct PriceReader {
    name: String,
    unit: &'static str,
    parts: mpsc::Receiver<Part>,
    /// The last line that was received.
    reached: u64,
    thread: JoinHandle<Result<(), Broken>>,
}

impl PriceReader {
    /// Starts to read `source`. No price is from after `last_date`.
    pub(super) fn start(source: Source, last_date: NaiveDate) -> Self {
        let (sender, parts) = mpsc::channel(MAX_UNREAD_PARTS);
        let (name, unit) = (source.name.clone(), source.unit());
        let thread = thread::spawn(move || read(source, last_date, |part| sender.blocking_send(part).is_ok()));
        Self { name, unit, parts, reached: 0, thread }
    }

    /// The next part; `None` after the last.
    pub(super) async fn next(&mut self) -> Option<Part> {
        let part = self.parts.recv().await?;
        self.reached = part.last().map_or(self.reached, |&(line, _)| line);
        Some(part)
    }

    /// Fails if the source is damaged. Call it after the last part.
    pub(super) fn end(self) -> anyhow::Result<()> {
        let Self { name, unit, reached, thread, .. } = self;
        let outcome = thread.join().map_err(|_| anyhow!("the thread that reads the prices has panicked"))?;
        let effect = Contents::Prices.effect_of_damage();
        outcome.map_err(|Broken { byte, cause }| Damage { name, byte, reached, unit, cause, effect })?;
        Ok(())
    }
}

/// Sends the prices of `source` in parts, until it ends or `send` returns false.
fn read(source: Source, last_date: NaiveDate, mut send: impl FnMut(Part) -> bool) -> Result<(), Broken> {
    // Buffers are not reused.
    let (_, used_buffers) = channel();
    let mut broken = None;
    let cut = source.cut(Place::default(), &used_buffers, |chunk| match send_chunk(&chunk, last_date, &mut send) {
        Ok(is_wanted) => is_wanted,
        Err(damage) => {
            broken = Some(damage);
            false
        }
    });
    broken.map_or(cut, Err)
}

/// Sends the prices of a chunk in parts. Returns whether more are wanted.
fn send_chunk(chunk: &Chunk, last_date: NaiveDate, send: &mut impl FnMut(Part) -> bool) -> Result<bool, Broken> {
    let mut part = Part::new();
    let outcome = chunk.read_prices(|line, record| {
        let price = record.map_err(|_| PriceReject::Unreadable);
        part.push((line, price.and_then(|record| Price::from_record(&record, last_date))));
        part.len() < PART_PRICES || send(mem::take(&mut part))
    });
    let is_wanted = send(part);
    outcome.map(|()| is_wanted)
}
