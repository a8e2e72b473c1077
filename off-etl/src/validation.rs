//! Validates records: each becomes a product, is rejected, or is filtered out.

use crate::{
    choice::Choice,
    correction::{Corrections, tag},
    filter::Filter,
    product::{self, Product, Withdrawal},
    profile::Profile,
    record::Record,
    reject::RejectReason,
    source::{Broken, Chunk, Place},
};
use chrono::{DateTime, Utc};
use off_kit::Clock;
use std::mem;

/// Capacity of a buffer that is reused, in bytes.
const MAX_REUSED_CAPACITY: usize = 1024 * 1024;

/// Barcodes of rejected records are cut to this length, in characters.
const MAX_CODE_LENGTH: usize = 40;

/// Records in a part of a chunk, if it can be split.
const PART_RECORDS: usize = 256;

/// The outcome of a record.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It became a product.
    Product(Box<Validated>),
    /// It cannot become a product.
    Rejected(Rejected),
    /// The filter does not match it.
    FilteredOut,
}

/// A record that cannot become a product.
#[derive(Debug)]
pub(crate) struct Rejected {
    /// Why it cannot become a product.
    pub(crate) reason: RejectReason,
    /// The barcode as written; `None` unless rejects are kept.
    pub(crate) code: Option<String>,
    /// Marks a product that the catalog may have as no longer sold.
    pub(crate) withdrawal: Option<Withdrawal>,
}

/// A product that is ready to be merged.
#[derive(Debug)]
pub(crate) struct Validated {
    pub(crate) product: Product,
    /// See [`Product::fingerprint`].
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
    pub(crate) fn validate(&mut self, rules: &Rules, line: u64, record: Result<Record, RejectReason>) {
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
    /// The current time; later times are errors.
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

    /// The outcome of a record that was read, or that is unreadable for a reason.
    fn validate(&self, record: Result<Record, RejectReason>) -> Outcome {
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

    /// Validates `chunk` and sends it in one or more parts, until the source is damaged or `send` returns false.
    /// Returns its buffer for reuse.
    pub(crate) fn validate_chunk(&self, chunk: Chunk, mut send: impl FnMut(Part) -> bool) -> Option<Vec<u8>> {
        let mut part = ValidatedChunk::new(chunk.end);
        let outcome = chunk.read(|line, record| {
            part.validate(self, line, record);
            match chunk.place_after(line) {
                Some(place) if part.outcomes.len() == PART_RECORDS => {
                    part.end = place;
                    send(Ok(mem::replace(&mut part, ValidatedChunk::new(chunk.end))))
                }
                _ => true,
            }
        });
        if let Err(broken) = outcome {
            if let Some(place) = part.outcomes.last().and_then(|(line, _)| chunk.place_after(*line)) {
                send(Ok(ValidatedChunk { end: place, ..part }));
            }
            send(Err(broken));
            return None;
        }
        // Has no effect if sending a part failed, because then nobody receives the next one either.
        send(Ok(part));
        chunk.into_buffer().filter(|buffer| buffer.capacity() <= MAX_REUSED_CAPACITY)
    }
}

/// A validated part of a chunk, or the damage that ends the source.
pub(crate) type Part = Result<ValidatedChunk, Broken>;
