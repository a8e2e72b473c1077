//! Its settings.

use crate::{api::ApiConfig, choice::Choice, deltas::DeltasConfig, source::SourceName};
use std::{net::SocketAddr, path::PathBuf};

/// The settings of the importer.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub struct Config {
    /// Where products come from: `sample`, `api`, `deltas`, `-` for standard input, or the path or address of an export (JSON
    /// lines or a table with tabs, plain or .gz, or Parquet).
    #[arg(env = "ETL_SOURCE", default_value = "sample", value_name = "SOURCE")]
    pub source: SourceName,
    #[command(flatten)]
    pub choice: Choice,
    /// Read, judge and report, and write nothing; no database is needed.
    #[arg(long, env = "ETL_DRY_RUN")]
    pub dry_run: bool,
    /// Where exports are put that have an address.
    #[arg(long, env = "ETL_DOWNLOADS", default_value = "downloads", value_name = "FOLDER")]
    pub downloads: PathBuf,
    #[command(flatten)]
    pub api: ApiConfig,
    #[command(flatten)]
    pub deltas: DeltasConfig,
    /// Where its metrics are shown while it runs, like 0.0.0.0:8080; nowhere without it.
    #[arg(long, env = "ETL_METRICS", value_name = "ADDRESS")]
    pub metrics: Option<SocketAddr>,
    /// The database, like postgres://user:password@host:5432/off.
    #[arg(long, env = "DATABASE_URL", value_name = "URL", hide_env_values = true, required_unless_present = "dry_run")]
    pub database_url: Option<String>,
    /// A file that holds the password of the address's user, where the address does not.
    #[arg(long, env = "DATABASE_PASSWORD_FILE", value_name = "FILE")]
    pub database_password_file: Option<PathBuf>,
    #[command(flatten)]
    pub log: off_kit::telemetry::Config,
}
