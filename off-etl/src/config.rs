//! Settings of the importer.

use crate::{api::ApiConfig, choice::Choice, deltas::DeltasConfig, source::SourceName};
use std::{net::SocketAddr, path::PathBuf};

/// Settings of the importer.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub struct Config {
    /// Source of the products: `sample`, `api`, `deltas`, `-` for standard input, or the path or URL of an export (JSON
    /// lines or a tab-separated table, plain or .gz, or Parquet). `prices` imports prices instead, from FILE.
    #[arg(env = "ETL_SOURCE", default_value = "sample", value_name = "SOURCE")]
    pub source: SourceName,
    /// Export of Open Prices for `prices`: JSON lines, plain or .gz, or Parquet.
    #[arg(value_name = "FILE", required_if_eq("source", "prices"))]
    pub prices: Option<PathBuf>,
    /// Which records become products.
    #[command(flatten)]
    pub choice: Choice,
    /// Read, validate and report without writing; needs no database.
    #[arg(long, env = "ETL_DRY_RUN")]
    pub dry_run: bool,
    /// Folder for downloaded exports.
    #[arg(long, env = "ETL_DOWNLOADS", default_value = "downloads", value_name = "FOLDER")]
    pub downloads: PathBuf,
    /// Settings for the API.
    #[command(flatten)]
    pub api: ApiConfig,
    /// Settings for deltas.
    #[command(flatten)]
    pub deltas: DeltasConfig,
    /// Address that serves metrics during the import, such as 0.0.0.0:8080; none by default.
    #[arg(long, env = "ETL_METRICS", value_name = "ADDRESS")]
    pub metrics: Option<SocketAddr>,
    /// URL of the database, such as postgres://user:password@host:5432/off.
    #[arg(long, env = "DATABASE_URL", value_name = "URL", hide_env_values = true, required_unless_present = "dry_run")]
    pub database_url: Option<String>,
    /// File with the database password, for a URL without one.
    #[arg(long, env = "DATABASE_PASSWORD_FILE", value_name = "FILE")]
    pub database_password_file: Option<PathBuf>,
    /// Settings for logs.
    #[command(flatten)]
    pub log: off_kit::telemetry::Config,
}
