//! Imports an export into the catalog.

use crate::{
    choice::Choice,
    observer::{Observer, Progress},
    pipeline::Pipeline,
    report::Report,
    sink::Sink,
    source::{Damage, Export, Freshness, Source, download},
    validation::{Rules, ValidatedChunk},
};
use anyhow::ensure;
use chrono::{DateTime, Utc};
use sqlx::PgPool;
use std::{path::Path, pin::pin, time::Duration};

/// How often progress is reported while no chunk arrives: a resumed import first decompresses what it already has.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// What is imported of a source, and where to.
#[derive(Debug, Clone, Copy)]
pub struct ImportOptions<'a> {
    /// Which records become products.
    pub choice: &'a Choice,
    /// Folder for downloaded exports.
    pub downloads: &'a Path,
    /// The migrated database whose catalog gets the products; without one, the records are only validated.
    pub db: Option<&'a PgPool>,
}

/// The result of an import.
#[derive(Debug)]
pub struct Imported {
    /// Counts of the whole import, including its runs before an interruption.
    pub report: Report,
    /// Why the source could not be read to its end; the records before the damage are in the catalog.
    pub damage: Option<Damage>,
}

impl Imported {
    /// The report of an import that read its whole source. Fails with the damage of any other source.
    pub fn complete(self) -> Result<Report, Damage> {
        self.damage.map_or(Ok(self.report), Err)
    }
}

/// Imports an export. Resumes an unfinished import of the same content with the same rules.
///
/// Fails if the source cannot be opened or holds no records, if the database is unavailable for ten minutes, and if
/// another importer runs.
pub async fn import(
    export: &Export,
    options: ImportOptions<'_>,
    observer: &mut impl Observer,
) -> anyhow::Result<Imported> {
    let source = match export {
        Export::Sample => Source::sample(),
        Export::Input => tokio::task::spawn_blocking(Source::input).await??,
        Export::File(path) => Source::file(path)?,
        Export::Address(url) => {
            let on_bytes = |bytes, total_bytes| observer.on_progress(Progress::of_download(bytes, total_bytes));
            Source::file(&download::download(url, options.downloads, on_bytes).await?)?
        }
    };
    import_source(source, &export.to_string(), options, observer).await
}

/// Imports an opened source. The observer gets the report under `report_name`.
pub(crate) async fn import_source(
    source: Source,
    report_name: &str,
    options: ImportOptions<'_>,
    observer: &mut impl Observer,
) -> anyhow::Result<Imported> {
    let ImportOptions { choice, db, .. } = options;
    let (name, freshness) = (source.name.clone(), source.freshness);
    let mut sink = Sink::open(db, source.identity.as_deref(), choice, &name).await?;
    let damage = read(source, &mut sink, choice, observer).await?;
    sink.flush().await?;
    let report = sink.report();
    if damage.is_none() {
        ensure!(report.read > 0, "{name} holds no records");
        ensure!(
            !report.is_all_unreadable(),
            "{name} is no export of Open Food Facts: none of its {} lines is a record",
            report.read
        );
    }
    observer.on_report(report_name, report);
    if damage.is_none() {
        let fresh_until = fresh_until(freshness, choice, report);
        sink.finish(fresh_until).await?;
    }
    Ok(Imported { report: sink.close().await?, damage })
}

/// Reads `source` into `sink` to its end, or until the limit of products is reached. Returns the damage of the source.
async fn read(
    source: Source,
    sink: &mut Sink,
    choice: &Choice,
    observer: &mut impl Observer,
) -> anyhow::Result<Option<Damage>> {
    let (meter, total_bytes) = (source.meter.clone(), source.total_bytes);
    let progress = |sink: &Sink| Progress { read: sink.report().read, bytes: meter.bytes(), total_bytes };
    let mut pipeline = Pipeline::start(source, sink.place(), Rules::of(choice));
    while let Some(chunk) = next(&mut pipeline, || observer.on_progress(progress(sink))).await? {
        sink.add(chunk, choice);
        observer.on_progress(progress(sink));
        if sink.is_full() {
            sink.flush().await?;
        }
        if sink.has_enough(choice) {
            return Ok(None);
        }
    }
    pipeline.end()
}

/// The next chunk; `None` after the last. Calls `on_wait` every second until it arrives.
async fn next(pipeline: &mut Pipeline, mut on_wait: impl FnMut()) -> anyhow::Result<Option<ValidatedChunk>> {
    let mut next = pin!(pipeline.next());
    loop {
        match tokio::time::timeout(PROGRESS_INTERVAL, &mut next).await {
            Ok(chunk) => return chunk,
            Err(_) => on_wait(),
        }
    }
}

/// Up to when the catalog has all changes after the whole source was imported; `None` if unknown.
fn fresh_until(freshness: Freshness, choice: &Choice, report: &Report) -> Option<DateTime<Utc>> {
    match freshness {
        // The limit left out a part of the source.
        _ if choice.filter.limit.is_some() => None,
        Freshness::Unknown => None,
        Freshness::Newest => report.newest,
        Freshness::Until(time) => Some(time),
    }
}
