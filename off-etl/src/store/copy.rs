//! Rows for `COPY … FROM STDIN (FORMAT binary)`, as the PostgreSQL documentation describes it under "Binary Format".

use chrono::{DateTime, NaiveDate, Utc};

/// Start of every binary copy: the signature, no flags, no extension.
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

/// Object id of the type `text` (pg_type.dat).
const TEXT_OID: i32 = 25;

/// Seconds between the UNIX epoch (1970) and the Postgres epoch (2000).
const POSTGRES_EPOCH: i64 = 946_684_800;

/// First day of the Postgres epoch, in days since the UNIX epoch.
const POSTGRES_EPOCH_DAY: i32 = 10_957;

/// Rows under construction, one field after the other.
#[derive(Debug)]
pub(super) struct Rows(Vec<u8>);

impl Rows {
    /// No rows.
    pub(super) fn new() -> Self {
        Self(HEADER.to_vec())
    }

    /// Starts a row with this number of fields.
    pub(super) fn row(&mut self, fields: i16) -> &mut Self {
        self.0.extend(fields.to_be_bytes());
        self
    }

    /// Writes a field of type `text`.
    pub(super) fn text(&mut self, text: &str) -> &mut Self {
        self.field(text.as_bytes())
    }

    /// Writes a field of type `smallint`.
    pub(super) fn short(&mut self, number: i16) -> &mut Self {
        self.field(&number.to_be_bytes())
    }

    /// Writes a field of type `bigint`.
    pub(super) fn long(&mut self, number: i64) -> &mut Self {
        self.field(&number.to_be_bytes())
    }

    /// Writes a field of type `double precision`.
    pub(super) fn double(&mut self, number: f64) -> &mut Self {
        self.field(&number.to_be_bytes())
    }

    /// Writes a field of type `boolean`.
    pub(super) fn boolean(&mut self, value: bool) -> &mut Self {
        self.field(&[u8::from(value)])
    }

    /// Writes a field of type `timestamptz`.
    pub(super) fn time(&mut self, time: DateTime<Utc>) -> &mut Self {
        self.long(time.timestamp_micros() - POSTGRES_EPOCH * 1_000_000)
    }

    /// Writes a field of type `date`.
    pub(super) fn date(&mut self, date: NaiveDate) -> &mut Self {
        self.field(&(date.to_epoch_days() - POSTGRES_EPOCH_DAY).to_be_bytes())
    }

    /// Writes a field of type `text[]`.
    pub(super) fn texts(&mut self, texts: &[String]) -> &mut Self {
        let mut array = Vec::new();
        // Number of dimensions (0 if empty), no nulls, type of the elements.
        array.extend(i32::from(!texts.is_empty()).to_be_bytes());
        array.extend(0_i32.to_be_bytes());
        array.extend(TEXT_OID.to_be_bytes());
        if !texts.is_empty() {
            array.extend(length(texts.len()));
            array.extend(1_i32.to_be_bytes());
            for text in texts {
                array.extend(length(text.len()));
                array.extend(text.as_bytes());
            }
        }
        self.field(&array)
    }

    /// Writes a field that may be NULL.
    pub(super) fn maybe<T>(&mut self, value: Option<T>, write: fn(&mut Self, T) -> &mut Self) -> &mut Self {
        if let Some(value) = value {
            return write(self, value);
        }
        self.0.extend((-1_i32).to_be_bytes());
        self
    }

    /// Appends the trailer and returns all bytes.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.0.extend((-1_i16).to_be_bytes());
        self.0
    }

    fn field(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend(length(bytes.len()));
        self.0.extend(bytes);
        self
    }
}

/// The length as Postgres expects it. It fits: everything in a product is far below two gigabytes.
fn length(bytes: usize) -> [u8; 4] {
    i32::try_from(bytes).unwrap_or(i32::MAX).to_be_bytes()
}
