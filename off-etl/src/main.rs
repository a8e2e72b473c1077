//! The importer as a program of its own.

use anyhow::Context;
use clap::Parser;
use off_etl::{Config, SourceName, api::Api, import_with_bar};
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
    telemetry::init("off-etl", &config.log)?;
    if let Some(address) = config.metrics {
        off_kit::http::show_metrics(address).await?;
    }
    let pool = db::lazy_pool(&config.db, "off-etl")?;
    db::check(&pool).await.map_err(anyhow::Error::msg).context("the catalogue cannot be filled")?;
    let report = match &config.source {
        SourceName::Api => Api::new(&config.api, Clock::real(1.0))?.import(config.profile, &pool, |_| {}).await?,
        source => import_with_bar(source, config.profile, &pool).await?,
    };
    println!("{}\n{report}", config.source);
    telemetry::flush().await;
    Ok(())
}
