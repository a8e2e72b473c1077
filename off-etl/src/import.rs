//! An import from its source into the catalogue.

use crate::{
    config::{Choice, SourceName},
    pipeline::{JudgedPiece, Outcome, Pipeline, Rules},
    report::Report,
    source::{Damage, Freshness, Place, Source, download},
    store::{Batch, Catalogue, Import},
};
use anyhow::bail;
use chrono::{DateTime, Utc};
use indicatif::{ProgressBar, ProgressStyle};
use sqlx::PgPool;
use std::{io::IsTerminal, path::Path, time::Duration};
use tokio::time::Instant;
use tracing::info;

/// Products that are merged at once.
const PRODUCTS: usize = 2000;

/// Records after which it is noted how far the import has come, also where hardly one of them became a product.
const RECORDS: u64 = 20_000;

/// How often a container's log says how far the import has come.
const SAY_EVERY: Duration = Duration::from_secs(5);

/// How far an import has come.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    /// Records read.
    pub read: u64,
    /// Bytes of the source read, as it lies on disk, and all there are where that is known.
    pub bytes: u64,
    pub total_bytes: Option<u64>,
}

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
    if !std::io::stderr().is_terminal() {
        let (started, mut said) = (Instant::now(), Instant::now());
        let on_progress = |progress| {
            if said.elapsed() >= SAY_EVERY {
                said = Instant::now();
                say(progress, started.elapsed());
            }
        };
        return import_reported(source, choice, downloads, db, on_progress, on_report).await;
    }
    let bar = ProgressBar::no_length().with_style(ProgressStyle::with_template(
        "{bar:30} {bytes}/{total_bytes}  {msg} records  {elapsed} passed, {eta} left",
    )?);
    let on_progress = |progress: Progress| {
        if let Some(total) = progress.total_bytes {
            bar.set_length(total);
        }
        bar.set_position(progress.bytes);
        bar.set_message(progress.read.to_string());
    };
    let on_report = |report: &Report| {
        bar.finish_and_clear();
        on_report(report);
    };
    let imported = import_reported(source, choice, downloads, db, on_progress, on_report).await;
    bar.finish_and_clear();
    imported
}

fn say(progress: Progress, passed: Duration) {
    let per_second = progress.read as f64 / passed.as_secs_f64();
    let share = progress.total_bytes.map(|total| progress.bytes as f64 / total.max(1) as f64);
    let left = share.filter(|share| *share > 0.0).map(|share| passed.as_secs_f64() * (1.0 - share) / share);
    info!(
        read = progress.read,
        per_second = per_second.round(),
        bytes = progress.bytes,
        total_bytes = progress.total_bytes,
        seconds_left = left.map(f64::round),
        "the import goes on"
    );
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
    let damage = loop {
        let Some(piece) = pipeline.next().await? else { break pipeline.end()? };
        sink.take(piece, choice);
        on_progress(Progress { read: sink.report().read, bytes: meter.bytes(), total_bytes });
        if sink.is_full() {
            sink.flush().await?;
        }
        if sink.has_enough(choice) {
            break None;
        }
    };
    sink.flush().await?;
    if sink.report().read == 0 && damage.is_none() {
        bail!("{name} holds no records: it should have a JSON object on each line");
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
    Rules { profile: choice.profile, filter: choice.filter.clone(), name_rejects: choice.keep_rejects }
}

/// Where judged records go: into the catalogue batch by batch, or only into a report.
#[derive(Debug)]
pub(crate) struct Sink {
    catalogue: Option<(Catalogue, Import)>,
    batch: Batch,
    /// Records of the report that the catalogue has.
    merged: u64,
}

impl Sink {
    pub(crate) async fn open(
        db: Option<&PgPool>,
        identity: Option<&str>,
        choice: &Choice,
        name: &str,
    ) -> anyhow::Result<Self> {
        let Some(db) = db else { return Ok(Self { catalogue: None, batch: Batch::default(), merged: 0 }) };
        let mut catalogue = Catalogue::open(db).await?;
        let import = catalogue.begin(identity, &format!("{choice:?}"), name).await?;
        if import.report.read > 0 {
            info!("{name}: an earlier import was interrupted after {} records and goes on there", import.report.read);
        }
        let batch = Batch { report: import.report.clone(), end: import.place, ..Batch::default() };
        Ok(Self { merged: import.report.read, catalogue: Some((catalogue, import)), batch })
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
                Outcome::Rejected(reason, code) => {
                    batch.report.reject(reason, line);
                    if choice.keep_rejects {
                        batch.rejects.push((line, reason.to_string(), code));
                    }
                }
                Outcome::Product(judged) => {
                    batch.report.products += 1;
                    for mend in judged.mends.iter() {
                        batch.report.mend(mend, line);
                    }
                    let changed = judged.product.last_modified;
                    batch.report.newest = batch.report.newest.max(Some(changed));
                    if self.catalogue.is_some() {
                        batch.products.push(*judged);
                    }
                }
            }
        }
        batch.end = piece.end;
    }

    pub(crate) fn has_enough(&self, choice: &Choice) -> bool {
        choice.filter.limit.is_some_and(|limit| self.batch.report.products >= limit)
    }

    pub(crate) fn is_full(&self) -> bool {
        self.batch.products.len() >= PRODUCTS || self.batch.report.read - self.merged >= RECORDS
    }

    /// Merges what has come together.
    pub(crate) async fn flush(&mut self) -> anyhow::Result<()> {
        if let Some((catalogue, import)) = &mut self.catalogue {
            catalogue.merge(import, &self.batch).await?;
            self.batch.report = import.report.clone();
        }
        self.merged = self.batch.report.read;
        self.batch.products.clear();
        self.batch.rejects.clear();
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
