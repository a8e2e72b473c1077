//! Imports a source into the catalog.

use crate::{
    choice::Choice,
    pipeline::{Outcome, Pipeline, Rejected, Rules, ValidatedChunk},
    progress::{Progress, ProgressReporter},
    report::Report,
    source::{Damage, Freshness, Place, Source, SourceName, download},
    store::{Batch, Catalog, Import},
};
use anyhow::{bail, ensure};
use chrono::{DateTime, Utc};
use off_kit::Clock;
use sqlx::PgPool;
use std::{cell::RefCell, path::Path, pin::pin, time::Duration};
use tracing::info;

/// Products that are merged in one batch.
const BATCH_PRODUCTS: usize = 2000;

/// Records after which progress is stored, even if few of them became products.
const BATCH_RECORDS: u64 = 20_000;

/// How often progress is reported while no chunk arrives: a resumed import first decompresses what it already has.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// The result of an import.
#[derive(Debug)]
pub struct Imported {
    /// Counts of the whole import, including its runs before an interruption.
    pub report: Report,
    /// Why the source could not be read to its end; the records before the damage are in the catalog.
    pub damage: Option<Damage>,
}

/// Like [`import`], with progress on standard error: a progress bar on a terminal, else a log line every few seconds.
/// Calls `on_report` before the import is stored as finished, so that an import that is killed in between reports again
/// when it is resumed.
pub async fn import_and_tell(
    source: &SourceName,
    choice: &Choice,
    downloads: &Path,
    db: Option<&PgPool>,
    on_report: impl FnOnce(&Report),
) -> anyhow::Result<Imported> {
    let reporter = RefCell::new(ProgressReporter::new()?);
    let on_progress = |progress| reporter.borrow_mut().report(progress);
    let on_report = |report: &Report| {
        reporter.borrow().finish();
        on_report(report);
    };
    let imported = import_reported(source, choice, downloads, db, on_progress, on_report).await;
    reporter.borrow().finish();
    imported
}

/// Imports an export or the sample into the catalog, or only validates it if `db` is `None`. Calls `on_progress` after
/// each chunk. Resumes an unfinished import of the same content with the same rules.
pub async fn import(
    source: &SourceName,
    choice: &Choice,
    downloads: &Path,
    db: Option<&PgPool>,
    on_progress: impl FnMut(Progress),
) -> anyhow::Result<Imported> {
    import_reported(source, choice, downloads, db, on_progress, |_| {}).await
}

async fn import_reported(
    source: &SourceName,
    choice: &Choice,
    downloads: &Path,
    db: Option<&PgPool>,
    mut on_progress: impl FnMut(Progress),
    on_report: impl FnOnce(&Report),
) -> anyhow::Result<Imported> {
    let source = match source {
        SourceName::Sample => Source::sample(),
        SourceName::Input => tokio::task::spawn_blocking(Source::input).await??,
        SourceName::File(path) => Source::file(path)?,
        SourceName::Address(url) => {
            let path = download::download(url, downloads, |bytes, total_bytes| {
                on_progress(Progress { read: 0, bytes, total_bytes });
            });
            Source::file(&path.await?)?
        }
        SourceName::Api => bail!("the API is imported with `Api::import`"),
        SourceName::Deltas => bail!("deltas are imported with `apply_deltas`"),
    };
    import_source(source, choice, db, &mut on_progress, on_report).await
}

pub(crate) async fn import_source(
    source: Source,
    choice: &Choice,
    db: Option<&PgPool>,
    on_progress: &mut impl FnMut(Progress),
    on_report: impl FnOnce(&Report),
) -> anyhow::Result<Imported> {
    let name = source.name.clone();
    let mut sink = Sink::open(db, source.identity.as_deref(), choice, &name).await?;
    let (meter, total_bytes, freshness) = (source.meter.clone(), source.total_bytes, source.freshness);
    let mut pipeline = Pipeline::start(source, sink.place(), rules_of(choice));
    let progress = |sink: &Sink| Progress { read: sink.report().read, bytes: meter.bytes(), total_bytes };
    let damage = loop {
        let chunk = {
            let mut next = pin!(pipeline.next());
            loop {
                match tokio::time::timeout(PROGRESS_INTERVAL, &mut next).await {
                    Ok(chunk) => break chunk?,
                    Err(_) => on_progress(progress(&sink)),
                }
            }
        };
        let Some(chunk) = chunk else { break pipeline.end()? };
        sink.add(chunk, choice);
        on_progress(progress(&sink));
        if sink.is_full() {
            sink.flush().await?;
        }
        if sink.has_enough(choice) {
            break None;
        }
    };
    sink.flush().await?;
    if sink.report().read == 0 && damage.is_none() {
        bail!("{name} holds no records");
    }
    if damage.is_none() {
        ensure!(
            !sink.report().is_all_unreadable(),
            "{name} is no export of Open Food Facts: none of its {} lines is a record",
            sink.report().read
        );
    }
    on_report(sink.report());
    if damage.is_none() {
        let fresh_until = match freshness {
            // The limit left out a part of the source.
            _ if choice.filter.limit.is_some() => None,
            Freshness::Unknown => None,
            Freshness::Newest => sink.report().newest,
            Freshness::Until(time) => Some(time),
        };
        sink.finish(fresh_until).await?;
    }
    Ok(Imported { report: sink.close().await?, damage })
}

pub(crate) fn rules_of(choice: &Choice) -> Rules {
    Rules {
        profile: choice.profile,
        filter: choice.filter.clone(),
        keep_codes: choice.keep_rejects,
        now: Clock::real(1.0).now(),
    }
}

/// Collects validated records: merges them into the catalog in batches, or only counts them in a dry run.
#[derive(Debug)]
pub(crate) struct Sink {
    catalog: Option<(Catalog, Import)>,
    batch: Batch,
    /// The report at the last merge.
    merged: Report,
}

impl Sink {
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
        let import = catalog.begin(identity.as_deref(), &choice.rules(), name).await?;
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
                Outcome::PassedOver => batch.report.passed_over += 1,
                Outcome::Rejected(Rejected { reason, code, withdrawal }) => {
                    batch.report.record_reject(reason, line);
                    if choice.keep_rejects {
                        batch.rejects.push((line, reason.to_string(), code));
                    }
                    batch.withdrawals.extend(withdrawal.filter(|_| self.catalog.is_some()));
                }
                Outcome::Product(validated) => {
                    batch.report.products += 1;
                    for correction in validated.corrections.iter() {
                        batch.report.record_correction(correction, line);
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

    /// Stores the import as finished, and up to when the catalog has all changes.
    pub(crate) async fn finish(&mut self, fresh_until: Option<DateTime<Utc>>) -> anyhow::Result<()> {
        self.batch.is_last = true;
        self.batch.fresh_until = fresh_until;
        self.flush().await
    }

    /// Releases the lock and returns the report.
    pub(crate) async fn close(self) -> anyhow::Result<Report> {
        if let Some((catalog, _)) = self.catalog {
            catalog.close().await?;
        }
        Ok(self.batch.report)
    }
}
