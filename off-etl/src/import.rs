//! An import from its source into the catalogue.

use crate::{
    config::SourceName,
    product::Profile,
    report::Report,
    source::{SAMPLE, lines},
    store,
};
use anyhow::bail;
use sqlx::PgPool;
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
