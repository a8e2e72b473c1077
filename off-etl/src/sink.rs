//! Collects validated records and merges them into the catalog in batches.

use crate::{
    choice::Choice,
    report::Report,
    source::Place,
    store::{Batch, Catalog, Import},
    validation::{Outcome, Rejected, ValidatedChunk},
};
use chrono::{DateTime, Utc};
use sqlx::PgPool;
use tracing::info;

/// Products that are merged in one batch.
const BATCH_PRODUCTS: usize = 2000;

/// Records after which progress is stored, even if few of them became products.
const BATCH_RECORDS: u64 = 20_000;

/// Merges the records of an import into the catalog in batches, or only counts them in a dry run.
#[derive(Debug)]
pub(crate) struct Sink {
    catalog: Option<(Catalog, Import)>,
    batch: Batch,
    /// The report at the last merge.
    merged: Report,
}

impl Sink {
    /// Takes the importer's lock, and finds the unfinished import of the source with this identity or begins a new one.
    /// Without a database it only counts. `name` is the source's name for display.
    pub(crate) async fn open(
        db: Option<&PgPool>,
        identity: Option<&str>,
        choice: &Choice,
        name: &str,
    ) -> anyhow::Result<Self> {
        let Some(db) = db else {
            return Ok(Self { catalog: None, batch: Batch::default(), merged: Report::default() });
        };
        let mut catalog = Catalog::open(db).await?;
        // An import without stored rejects is not resumed as one with them: the earlier rejects would be missing.
        let suffix = if choice.keep_rejects { ", rejects kept" } else { "" };
        let identity = identity.map(|identity| format!("{identity}{suffix}"));
        let import = catalog.begin(identity.as_deref(), &choice.stored_rules(), name).await?;
        if import.report.read > 0 {
            info!("{name}: resuming an import that was interrupted after {} records", import.report.read);
        }
        let batch = Batch { report: import.report.clone(), end: import.place, ..Batch::default() };
        Ok(Self { merged: import.report.clone(), catalog: Some((catalog, import)), batch })
    }

    /// Where the source continues.
    pub(crate) fn place(&self) -> Place {
        self.batch.end
    }

    /// The report so far.
    pub(crate) fn report(&self) -> &Report {
        &self.batch.report
    }

    /// Adds the outcomes of a chunk to the batch. Records after the limit do not count as read.
    pub(crate) fn add(&mut self, chunk: ValidatedChunk, choice: &Choice) {
        let batch = &mut self.batch;
        for (line, outcome) in chunk.outcomes {
            if choice.filter.limit.is_some_and(|limit| batch.report.products >= limit) {
                return;
            }
            batch.report.read += 1;
            match outcome {
                Outcome::FilteredOut => batch.report.filtered_out += 1,
                Outcome::Rejected(Rejected { reason, code, withdrawal }) => {
                    batch.report.add_reject(reason, line);
                    if choice.keep_rejects {
                        batch.rejects.push((line, reason.to_string(), code));
                    }
                    batch.withdrawals.extend(withdrawal.filter(|_| self.catalog.is_some()));
                }
                Outcome::Product(validated) => {
                    batch.report.products += 1;
                    for correction in validated.corrections.iter() {
                        batch.report.add_correction(correction, line);
                    }
                    if self.catalog.is_some() {
                        batch.products.push(*validated);
                    }
                }
            }
        }
        batch.report.newest = batch.report.newest.max(chunk.newest);
        batch.end = chunk.end;
    }

    /// Whether the limit of products is reached.
    pub(crate) fn has_enough(&self, choice: &Choice) -> bool {
        choice.filter.limit.is_some_and(|limit| self.batch.report.products >= limit)
    }

    /// Whether the batch is to be merged.
    pub(crate) fn is_full(&self) -> bool {
        self.batch.products.len() >= BATCH_PRODUCTS || self.batch.report.read - self.merged.read >= BATCH_RECORDS
    }

    /// Merges the batch and starts a new one.
    pub(crate) async fn flush(&mut self) -> anyhow::Result<()> {
        if let Some((catalog, import)) = &mut self.catalog {
            catalog.merge(import, &self.batch).await?;
            self.batch.report = import.report.clone();
        }
        self.batch.report.count_since(&self.merged);
        self.merged = self.batch.report.clone();
        self.batch.products.clear();
        self.batch.rejects.clear();
        self.batch.withdrawals.clear();
        Ok(())
    }

    /// Stores the import as finished, and up to when the catalog has all changes. Makes its products searchable.
    pub(crate) async fn finish(&mut self, fresh_until: Option<DateTime<Utc>>) -> anyhow::Result<()> {
        self.batch.is_last = true;
        self.batch.fresh_until = fresh_until;
        self.flush().await?;
        match &mut self.catalog {
            Some((catalog, _)) => catalog.update_search().await,
            None => Ok(()),
        }
    }

    /// Releases the lock and returns the report.
    pub(crate) async fn close(self) -> anyhow::Result<Report> {
        if let Some((catalog, _)) = self.catalog {
            catalog.close().await?;
        }
        Ok(self.batch.report)
    }
}
