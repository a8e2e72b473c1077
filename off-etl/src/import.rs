//! An import from its source into the catalogue.

use crate::{
    choice::Choice,
    pipeline::{JudgedPiece, Outcome, Pipeline, Rejected, Rules},
    progress::{Progress, Teller},
    report::Report,
    source::{Damage, Freshness, Place, Source, SourceName, download},
    store::{Batch, Catalogue, Import},
};
use anyhow::{bail, ensure};
use chrono::{DateTime, Utc};
use off_kit::Clock;
use sqlx::PgPool;
use std::{cell::RefCell, path::Path, pin::pin, time::Duration};
use tracing::info;

/// Products that are merged at once.
const PRODUCTS: usize = 2000;

/// Records after which it is noted how far the import has come, also where hardly one of them became a product.
const RECORDS: u64 = 20_000;

/// How long nothing is told while nothing comes: an import that goes on first unpacks what it has.
const QUIET: Duration = Duration::from_secs(1);

/// What an import came to.
#[derive(Debug)]
pub struct Imported {
    pub report: Report,
    /// Why the source could not be read to its end; what was sound before is in the catalogue.
    pub damage: Option<Damage>,
}

/// The same as [`import`], told on standard error: by a progress bar on a terminal, else by a line in the log now and then. What it
/// came to goes to `on_report` before the import counts as finished: an import that is killed in between says it again.
pub async fn import_and_tell(
    source: &SourceName,
    choice: &Choice,
    downloads: &Path,
    db: Option<&PgPool>,
    on_report: impl FnOnce(&Report),
) -> anyhow::Result<Imported> {
    let teller = RefCell::new(Teller::new()?);
    let on_progress = |progress| teller.borrow_mut().tell(progress);
    let on_report = |report: &Report| {
        teller.borrow().finish();
        on_report(report);
    };
    let imported = import_reported(source, choice, downloads, db, on_progress, on_report).await;
    teller.borrow().finish();
    imported
}

/// Reads an export or the sample into the catalogue, or only judges it where there is no database; tells `on_progress` after
/// each piece. An import of the same content by the same rules that did not come to its end goes on where it was.
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
        SourceName::Api => bail!("the API is read page by page, see `Api::import`"),
        SourceName::Deltas => bail!("deltas are read one after the other, see `deltas::catch_up`"),
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
        let piece = {
            let mut next = pin!(pipeline.next());
            loop {
                match tokio::time::timeout(QUIET, &mut next).await {
                    Ok(piece) => break piece?,
                    Err(_) => on_progress(progress(&sink)),
                }
            }
        };
        let Some(piece) = piece else { break pipeline.end()? };
        sink.take(piece, choice);
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
            // Only some of it was asked for.
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
        name_rejects: choice.keep_rejects,
        now: Clock::real(1.0).now(),
    }
}

/// Where judged records go: into the catalogue batch by batch, or only into a report.
#[derive(Debug)]
pub(crate) struct Sink {
    catalogue: Option<(Catalogue, Import)>,
    batch: Batch,
    /// What the report was when it was last merged.
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
            return Ok(Self { catalogue: None, batch: Batch::default(), merged: Report::default() });
        };
        let mut catalogue = Catalogue::open(db).await?;
        // Rejects that are kept are kept from the first line on.
        let suffix = if choice.keep_rejects { ", rejects kept" } else { "" };
        let identity = identity.map(|identity| format!("{identity}{suffix}"));
        let import = catalogue.begin(identity.as_deref(), &choice.rules(), name).await?;
        if import.report.read > 0 {
            info!("{name}: an earlier import was interrupted after {} records and goes on there", import.report.read);
        }
        let batch = Batch { report: import.report.clone(), end: import.place, ..Batch::default() };
        Ok(Self { merged: import.report.clone(), catalogue: Some((catalogue, import)), batch })
    }

    /// Where its source goes on.
    pub(crate) fn place(&self) -> Place {
        self.batch.end
    }

    pub(crate) fn report(&self) -> &Report {
        &self.batch.report
    }

    /// Notes what became of some records. What comes after the last product that was asked for is not even read.
    pub(crate) fn take(&mut self, piece: JudgedPiece, choice: &Choice) {
        let batch = &mut self.batch;
        for (line, outcome) in piece.outcomes {
            if choice.filter.limit.is_some_and(|limit| batch.report.products >= limit) {
                return;
            }
            batch.report.read += 1;
            match outcome {
                Outcome::PassedOver => batch.report.passed_over += 1,
                Outcome::Rejected(Rejected { reason, code, withdrawal }) => {
                    batch.report.reject(reason, line);
                    if choice.keep_rejects {
                        batch.rejects.push((line, reason.to_string(), code));
                    }
                    batch.withdrawals.extend(withdrawal.filter(|_| self.catalogue.is_some()));
                }
                Outcome::Product(judged) => {
                    batch.report.products += 1;
                    for mend in judged.mends.iter() {
                        batch.report.mend(mend, line);
                    }
                    if self.catalogue.is_some() {
                        batch.products.push(*judged);
                    }
                }
            }
        }
        batch.report.newest = batch.report.newest.max(piece.newest);
        batch.end = piece.end;
    }

    pub(crate) fn has_enough(&self, choice: &Choice) -> bool {
        choice.filter.limit.is_some_and(|limit| self.batch.report.products >= limit)
    }

    pub(crate) fn is_full(&self) -> bool {
        self.batch.products.len() >= PRODUCTS || self.batch.report.read - self.merged.read >= RECORDS
    }

    /// Merges what has come together.
    pub(crate) async fn flush(&mut self) -> anyhow::Result<()> {
        if let Some((catalogue, import)) = &mut self.catalogue {
            catalogue.merge(import, &self.batch).await?;
            self.batch.report = import.report.clone();
        }
        self.batch.report.count_since(&self.merged);
        self.merged = self.batch.report.clone();
        self.batch.products.clear();
        self.batch.rejects.clear();
        self.batch.withdrawals.clear();
        Ok(())
    }

    /// Notes that the import came to its end, and how fresh the catalogue is with it.
    pub(crate) async fn finish(&mut self, fresh_until: Option<DateTime<Utc>>) -> anyhow::Result<()> {
        self.batch.is_last = true;
        self.batch.fresh_until = fresh_until;
        self.flush().await
    }

    pub(crate) async fn close(self) -> anyhow::Result<Report> {
        if let Some((catalogue, _)) = self.catalogue {
            catalogue.close().await?;
        }
        Ok(self.batch.report)
    }
}
