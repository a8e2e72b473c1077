//! The importer program.

use anyhow::{Context, ensure};
use clap::Parser;
use off_etl::{
    Config, Damage, ImportOptions, METRICS, Observer, Progress, ProgressReporter, Report, SourceName, api::Api,
    apply_deltas, import, import_prices,
};
use off_kit::{Clock, db, print_line, telemetry};
use sqlx::{ConnectOptions, PgPool};
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};
use tracing::info;

#[global_allocator]
static ALLOCATOR: off_kit::Allocator = off_kit::Allocator;

/// Exit code of an import whose source is damaged.
const INCOMPLETE: u8 = 3;

/// Exit code of an import that a signal ended; the next one resumes it.
const INTERRUPTED: u8 = 130;

/// Fills the catalog from Open Food Facts. Exits with 0 when the whole source was read, with 3 when the source is
/// damaged and at most its undamaged part was imported, and with 1 on any other error.
#[derive(Debug, Parser)]
#[command(version)]
struct Program {
    #[command(flatten)]
    config: Config,
}

#[tokio::main]
async fn main() -> ExitCode {
    let config = Program::parse().config;
    let is_polling = matches!(config.source, SourceName::Deltas) && config.deltas.deltas_every.is_some();
    let outcome = tokio::select! {
        outcome = start(config) => outcome,
        // Waiting for the next deltas ends only with a signal. The batch in progress is rolled back.
        signaled = wait_for_signal() => match signaled {
            Ok(()) => {
                telemetry::flush().await;
                return if is_polling { ExitCode::SUCCESS } else { ExitCode::from(INTERRUPTED) };
            }
            Err(error) => Err(error),
        },
    };
    telemetry::flush().await;
    let Err(error) = outcome else { return ExitCode::SUCCESS };
    print_error(&error);
    if error.is::<Damage>() { ExitCode::from(INCOMPLETE) } else { ExitCode::FAILURE }
}

/// Waits for SIGINT or SIGTERM. Without a handler, the first process of a container ignores SIGTERM.
async fn wait_for_signal() -> anyhow::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    info!("stopped by a signal; what was committed is kept");
    Ok(())
}

/// Checks the settings and starts logging and metrics, then imports.
async fn start(config: Config) -> anyhow::Result<()> {
    ensure!(
        !(config.dry_run && config.choice.keep_rejects),
        "--keep-rejects writes to the database and --dry-run does not: use only one of them"
    );
    ensure!(
        config.prices.is_none() || config.source == SourceName::Prices,
        "{} is a second source: name only one, or `prices` and its file",
        config.prices.unwrap_or_default().display()
    );
    telemetry::init("off-etl", &config.log)?;
    telemetry::describe(&METRICS);
    if let Some(address) = config.metrics {
        off_kit::http::show_metrics(address, "ETL_METRICS").await?;
    }
    let pool = open(&config).await?;
    run(&config, pool.as_ref()).await
}

/// Connects to the database and checks that it is migrated; `None` for a dry run.
async fn open(config: &Config) -> anyhow::Result<Option<PgPool>> {
    let Some(url) = config.database_url.as_deref().filter(|_| !config.dry_run) else { return Ok(None) };
    let database =
        db::Config { database_password_file: config.database_password_file.clone(), ..db::Config::at(url, 2) };
    let pool = db::lazy_pool(&database, "off-etl")?;
    if config.source == SourceName::Prices {
        // Its statements work on all prices at once, and are not reported as slow.
        pool.set_connect_options(pool.connect_options().as_ref().clone().disable_statement_logging());
    }
    db::probe(&pool).await.map_err(anyhow::Error::msg)?;
    db::check(&pool, off_migrations::newest()).await.map_err(anyhow::Error::msg).context("cannot fill the catalog")?;
    db::refuse_shared_sessions(&pool).await?;
    Ok(Some(pool))
}

async fn run(config: &Config, db: Option<&PgPool>) -> anyhow::Result<()> {
    let options = ImportOptions { choice: &config.choice, downloads: &config.downloads, db };
    let mut output = Output::default();
    match &config.source {
        SourceName::Export(export) => drop(import(export, options, &mut output).await?.complete()?),
        SourceName::Api => drop(Api::new(&config.api, Clock::real(1.0))?.import(options, &mut output).await?),
        SourceName::Deltas => apply_deltas(&config.deltas, options, &mut output).await?,
        SourceName::Prices => {
            let path = config.prices.as_deref().context("`prices` needs the file of an export of Open Prices")?;
            let report = import_prices(path, db, &mut output).await?;
            // Removes the progress bar.
            drop(output);
            print_line!("{}\n{report}", path.display());
        }
    }
    Ok(())
}

/// Shows progress on standard error, and prints each report on standard output.
#[derive(Debug, Default)]
struct Output {
    progress: ProgressReporter,
}

impl Observer for Output {
    fn on_progress(&mut self, progress: Progress) {
        self.progress.on_progress(progress);
    }

    fn on_report(&mut self, name: &str, report: &Report) {
        self.progress.on_report(name, report);
        print_line!("{name}\n{report}");
    }
}

#[expect(clippy::print_stderr, reason = "a failing exit code needs its reason on standard error")]
fn print_error(error: &anyhow::Error) {
    let kind = if error.is::<Damage>() { "incomplete: " } else { "" };
    eprintln!("error: {kind}{error:#}");
}
