//! An import from its source into the catalogue.

use crate::{
    config::SourceName,
    product::Profile,
    report::Report,
    source::{SAMPLE, lines},
    store,
};
use anyhow::bail;
use indicatif::{ProgressBar, ProgressStyle};
use sqlx::PgPool;
use std::io::IsTerminal;
use tokio::sync::mpsc;

/// How far an import has come.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    /// Records read.
    pub read: u64,
    /// Bytes of the source read, as it lies on disk, and all there are.
    pub bytes: u64,
    pub total_bytes: u64,
}

/// The same as [`import`], with a progress bar on standard error where that is a terminal.
pub async fn import_with_bar(source: &SourceName, profile: Profile, db: &PgPool) -> anyhow::Result<Report> {
    let bar = if std::io::stderr().is_terminal() { ProgressBar::no_length() } else { ProgressBar::hidden() };
    let bar =
        bar.with_style(ProgressStyle::with_template("{bar:30} {bytes}/{total_bytes}  {msg} records  {eta} left")?);
    let report = import(source, profile, db, |progress| {
        bar.set_length(progress.total_bytes);
        bar.set_position(progress.bytes);
        bar.set_message(progress.read.to_string());
    })
    .await;
    bar.finish_and_clear();
    report
}

/// Batches that may wait between the reader and the database.
const AHEAD: usize = 2;

/// Reads a file or the sample into the catalogue, telling `on_progress` after each batch. A damaged file is an error,
/// and what was sound before the damage is in the catalogue.
pub async fn import(
    source: &SourceName,
    profile: Profile,
    db: &PgPool,
    mut on_progress: impl FnMut(Progress),
) -> anyhow::Result<Report> {
    let (sender, mut batches) = mpsc::channel(AHEAD);
    let total_bytes = match source {
        SourceName::Sample => {
            lines::read_memory(SAMPLE, profile, sender);
            SAMPLE.len() as u64
        }
        SourceName::File(path) => lines::read_file(path, profile, sender)?,
        SourceName::Api => bail!("the API is read page by page, see `Api::import`"),
    };
    let mut report = Report::default();
    while let Some(batch) = batches.recv().await {
        let batch = batch?;
        let bytes = batch.position;
        report += store::merge(db, batch).await?;
        on_progress(Progress { read: report.read, bytes, total_bytes });
    }
    if let SourceName::File(path) = source
        && report.read == 0
    {
        bail!("{} holds no records: it should have a JSON object on each line", path.display());
    }
    Ok(report)
}
