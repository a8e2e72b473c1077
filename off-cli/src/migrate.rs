//! `off migrate`: brings the database, the streams and the consumers up to date. Services never do this.

mod roles;

use crate::home::Home;
use anyhow::ensure;
use off_kit::{
    Bus,
    bus::{self, Keeping},
    db, print_line,
    service::START_PATIENCE,
};
use sqlx::PgPool;
use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

/// What to migrate; without these, the system in this folder.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The database, like postgres://user:password@host:5432/off.
    #[arg(long, env = "DATABASE_URL", requires = "nats_url", hide_env_values = true)]
    database_url: Option<String>,
    /// The broker, like nats://user:password@host:4222.
    #[arg(long, env = "NATS_URL", requires = "database_url", hide_env_values = true)]
    nats_url: Option<String>,
    /// A file that holds the password of the database's user, where the address does not.
    #[arg(long, env = "DATABASE_PASSWORD_FILE", requires = "database_url", value_name = "FILE")]
    database_password_file: Option<PathBuf>,
    /// A file that holds the password of the broker's user, where the address does not.
    #[arg(long, env = "NATS_PASSWORD_FILE", requires = "nats_url", value_name = "FILE")]
    nats_password_file: Option<PathBuf>,
    #[command(flatten)]
    keeping: Keeping,
    /// Gives each program a database role of its own, off_etl, off_users, off_orders and off_operator, which may do only
    /// what the program does. The folder has a file with the password of each: etl, users, orders, operator.
    #[arg(long, env = "OFF_ROLES", value_name = "FOLDER")]
    roles: Option<PathBuf>,
    /// Migrates a database even when it holds something else.
    #[arg(long)]
    yes: bool,
}

pub(crate) async fn run(home: &Home, options: &Options) -> anyhow::Result<ExitCode> {
    if let (Some(database_url), Some(nats_url)) = (&options.database_url, &options.nats_url) {
        // They may be starting still, beside this command.
        let database = db::Config {
            database_password_file: options.database_password_file.clone(),
            ..db::Config::at(database_url, 1)
        };
        let broker =
            bus::Config { nats_password_file: options.nats_password_file.clone(), ..bus::Config::at(nats_url) };
        let pool = db::lazy_pool(&database, "off-migrate")?;
        let bus = Bus::connect(&broker, "migrate").await?;
        all(&pool, &bus, options.keeping, options.yes).await?;
        set_roles(&pool, options.roles.as_deref()).await?;
    } else {
        let visit = home.visit().await?;
        all(&visit.db, &visit.bus, options.keeping, options.yes).await?;
        set_roles(&visit.db, options.roles.as_deref()).await?;
        visit.end().await?;
    }
    print_line!("the database, the streams and the consumers are up to date");
    Ok(ExitCode::SUCCESS)
}

/// Migrates the database and declares streams and consumers; waits for servers that are starting. Fails where the database holds
/// something else, unless `is_meant` says that it is the right one all the same.
pub(crate) async fn all(pool: &PgPool, bus: &Bus, keeping: Keeping, is_meant: bool) -> anyhow::Result<()> {
    db::connect(pool, START_PATIENCE).await?;
    ensure!(
        is_meant || !db::is_of_another(pool).await?,
        "the database {} holds tables and was never migrated by off: is DATABASE_URL right? With --yes off's schemas are added to it",
        pool.connect_options().get_database().unwrap_or_default()
    );
    db::migrate(pool, START_PATIENCE).await?;
    bus.connected(START_PATIENCE).await?;
    bus::declare(bus, keeping).await
}

async fn set_roles(pool: &PgPool, folder: Option<&Path>) -> anyhow::Result<()> {
    match folder {
        Some(folder) => roles::set(pool, folder).await,
        None => Ok(()),
    }
}
