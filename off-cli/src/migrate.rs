//! `off migrate`: brings the database, the streams and the consumers up to date. Services never do this.

use crate::home::Home;
use off_kit::{Bus, bus, db, service::START_PATIENCE};
use sqlx::PgPool;
use std::process::ExitCode;

/// What to migrate; without these, the system in this folder.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The database, like postgres://user:password@host:5432/off.
    #[arg(long, env = "DATABASE_URL", requires = "nats_url", hide_env_values = true)]
    database_url: Option<String>,
    /// The broker, like nats://user:password@host:4222.
    #[arg(long, env = "NATS_URL", requires = "database_url", hide_env_values = true)]
    nats_url: Option<String>,
}

pub(crate) async fn run(home: &Home, options: &Options) -> anyhow::Result<ExitCode> {
    if let (Some(database_url), Some(nats_url)) = (&options.database_url, &options.nats_url) {
        // They may be starting still, beside this command.
        let config = db::Config { database_url: database_url.clone(), database_connections: 1 };
        let pool = db::lazy_pool(&config, "off-migrate")?;
        let bus = Bus::connect(&bus::Config { nats_url: nats_url.clone() }, "migrate").await?;
        all(&pool, &bus).await?;
    } else {
        let visit = home.visit().await?;
        all(&visit.db, &visit.bus).await?;
        visit.end().await?;
    }
    println!("the database, the streams and the consumers are up to date");
    Ok(ExitCode::SUCCESS)
}

/// Migrates the database and declares streams and consumers; waits for servers that are starting.
pub(crate) async fn all(pool: &PgPool, bus: &Bus) -> anyhow::Result<()> {
    db::migrate(pool, START_PATIENCE).await?;
    bus.connected(START_PATIENCE).await?;
    bus::declare(bus).await
}
