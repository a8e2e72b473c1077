//! Loads the catalog before the services start.

use crate::system::settings;
use off_etl::{
    ApiConfig, Choice, ImportOptions, Observer, Profile, Progress, ProgressReporter, Report, SourceName, api::Api,
};
use off_kit::{Clock, print_line, telemetry, text::counted};
use sqlx::PgPool;
use std::path::Path;

/// Imports `source` and prints the result.
pub(super) async fn load(source: &SourceName, profile: Profile, downloads: &Path, pool: &PgPool) -> anyhow::Result<()> {
    print_line!("loading the catalog from {source}");
    telemetry::describe(&off_etl::METRICS);
    let choice = Choice::from(profile);
    let import_options = ImportOptions { choice: &choice, downloads, db: Some(pool) };
    let mut observer = CatalogObserver::default();
    let report = match source {
        SourceName::Export(export) => off_etl::import(export, import_options, &mut observer).await?.complete()?,
        SourceName::Api => {
            let config: ApiConfig = settings(&[])?;
            // The rate limits of the API are in real seconds, so the speed does not apply.
            Api::new(&config, Clock::real(1.0))?.import(import_options, &mut observer).await?
        }
        SourceName::Deltas => {
            anyhow::bail!("deltas are no complete catalog: start with an export, then also run `off-etl deltas`")
        }
        SourceName::Prices => {
            anyhow::bail!("prices are no catalog: start with an export, then also run `off-etl prices FILE`")
        }
    };
    let (read, new, updated) = (counted(report.read, "record"), report.new, report.updated);
    print_line!("  {read} read: {new} new, {updated} updated, {} rejected", report.rejected_total());
    Ok(())
}

/// Shows the progress of an import: of an export as a bar or log lines, of the API page by page.
#[derive(Debug, Default)]
struct CatalogObserver {
    progress: ProgressReporter,
}

impl Observer for CatalogObserver {
    fn on_progress(&mut self, progress: Progress) {
        self.progress.on_progress(progress);
    }

    fn on_page(&mut self, report: &Report) {
        print_line!("  {} read, {} new so far", report.read, report.new);
    }

    fn on_report(&mut self, name: &str, report: &Report) {
        self.progress.on_report(name, report);
    }
}
