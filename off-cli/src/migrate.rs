//! `off migrate`: migrates the database, and creates or updates the streams and consumers. Services never do this.

mod clients;
mod roles;
mod store;

use crate::home::Home;
use anyhow::ensure;
use off_kit::{
    Bus, Clock,
    bus::{self, StreamStorage},
    db, print_line,
    service::START_PATIENCE,
};
use sqlx::PgPool;
use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

/// The servers to migrate; without the URLs, those of the system in this folder.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// URL of the database, like postgres://user:password@host:5432/off.
    #[arg(long, env = "DATABASE_URL", requires = "nats_url", hide_env_values = true)]
    database_url: Option<String>,
    /// URL of the broker, like nats://user:password@host:4222.
    #[arg(long, env = "NATS_URL", requires = "database_url", hide_env_values = true)]
    nats_url: Option<String>,
    /// A file with the password of the database user, if the URL has none.
    #[arg(long, env = "DATABASE_PASSWORD_FILE", requires = "database_url", value_name = "FILE")]
    database_password_file: Option<PathBuf>,
    /// A file with the password of the broker user, if the URL has none.
    #[arg(long, env = "NATS_PASSWORD_FILE", requires = "nats_url", value_name = "FILE")]
    nats_password_file: Option<PathBuf>,
    #[command(flatten)]
    storage: StreamStorage,
    /// Creates one database role per program, with only the permissions that the program needs: off_etl, off_users,
    /// off_orders, off_billing, off_auth and off_operator; and the clients of the API, generator and operator. The folder
    /// has a password file for each role (etl, users, orders, billing, auth, operator) and the secrets client_generator
    /// and client_operator.
    #[arg(long, env = "OFF_ROLES", value_name = "FOLDER")]
    roles: Option<PathBuf>,
    /// Migrates a database even if it holds tables of something else.
    #[arg(long)]
    yes: bool,
}

/// What to do with a database that holds tables and was never migrated by off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForeignTables {
    /// Fail, and change nothing.
    Refuse,
    /// Add the schemas of off to it.
    Allow,
}

impl ForeignTables {
    /// [`Self::Allow`] with the option `--yes`.
    pub(crate) fn allowed_if(yes: bool) -> Self {
        if yes { Self::Allow } else { Self::Refuse }
    }
}

pub(crate) async fn run(home: &Home, options: &Options) -> anyhow::Result<ExitCode> {
    let foreign_tables = ForeignTables::allowed_if(options.yes);
    if let (Some(database_url), Some(nats_url)) = (&options.database_url, &options.nats_url) {
        // The servers may still be starting, so the pool and the bus connect lazily and retry.
        let database = db::Config {
            database_password_file: options.database_password_file.clone(),
            ..db::Config::at(database_url, 1)
        };
        let broker =
            bus::Config { nats_password_file: options.nats_password_file.clone(), ..bus::Config::at(nats_url) };
        let pool = db::lazy_pool(&database, "off-migrate")?;
        let bus = Bus::connect(&broker, "migrate").await?;
        all(&pool, &bus, options.storage, foreign_tables).await?;
        set_roles(&pool, options.roles.as_deref()).await?;
    } else {
        let session = home.session().await?;
        all(&session.db, &session.bus, options.storage, foreign_tables).await?;
        set_roles(&session.db, options.roles.as_deref()).await?;
        session.end().await?;
    }
    print_line!("the database, the streams and the consumers are up to date");
    Ok(ExitCode::SUCCESS)
}

/// Migrates the database and declares streams and consumers; waits for servers that are starting. Fails if a server
/// does not answer in time, or if the database holds tables of something else and `foreign_tables` refuses them.
pub async fn all(
    pool: &PgPool,
    bus: &Bus,
    storage: StreamStorage,
    foreign_tables: ForeignTables,
) -> anyhow::Result<()> {
    db::connect(pool, START_PATIENCE).await?;
    ensure!(
        foreign_tables == ForeignTables::Allow || !off_migrations::is_of_another(pool).await?,
        "the database {} holds tables and was never migrated by off: is DATABASE_URL right? \
         With --yes, off adds its schemas to it",
        pool.connect_options().get_database().unwrap_or_default()
    );
    db::refuse_shared_sessions(pool).await?;
    off_migrations::apply(pool).await?;
    bus.connected(START_PATIENCE).await?;
    bus::declare(bus, storage).await
}

/// Stores the clients of the API, with the secrets in `folder`.
pub async fn set_clients(pool: &PgPool, folder: &Path) -> anyhow::Result<()> {
    clients::set(pool, folder, Clock::real(1.0)).await
}

async fn set_roles(pool: &PgPool, folder: Option<&Path>) -> anyhow::Result<()> {
    match folder {
        Some(folder) => {
            roles::set(pool, folder).await?;
            set_clients(pool, folder).await
        }
        None => Ok(()),
    }
}
