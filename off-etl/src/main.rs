//! The importer as a program of its own.

use anyhow::Context;
use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use off_etl::{Config, SourceName, api::Api, import};
use off_kit::{Clock, db, telemetry};

/// Fills the catalogue from Open Food Facts.
#[derive(Debug, Parser)]
#[command(version)]
struct Program {
    #[command(flatten)]
    config: Config,
}

#[tokio::main]
#[expect(clippy::print_stdout, reason = "the report is what the command is for")]
async fn main() -> anyhow::Result<()> {
    let config = Program::parse().config;
    telemetry::init(&config.log)?;
    let pool = db::lazy_pool(&config.db, "off-etl")?;
    db::check(&pool).await.map_err(anyhow::Error::msg).context("the catalogue cannot be filled")?;
    let report = match &config.source {
        SourceName::Api => Api::new(&config.api, Clock::real(1.0))?.import(config.profile, &pool, |_| {}).await?,
        source => {
            let bar = ProgressBar::no_length()
                .with_style(ProgressStyle::with_template("{bar:30} {bytes}/{total_bytes}  {msg} records  {eta} left")?);
            let report = import(source, config.profile, &pool, |progress| {
                bar.set_length(progress.total_bytes);
                bar.set_position(progress.bytes);
                bar.set_message(progress.read.to_string());
            });
            let report = report.await?;
            bar.finish_and_clear();
            report
        }
    };
    println!("{}\n{report}", config.source);
    Ok(())
}
