//! Its settings.

use crate::{ApiConfig, filter::Filter, product::Profile, source::deltas::DeltasConfig};
use std::{convert::Infallible, fmt, net::SocketAddr, path::PathBuf, str::FromStr};
use url::Url;

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

/// Which records become products.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
#[group(skip)]
pub struct Choice {
    /// Which state tags a record needs: `strict` is the original list with en:checked, which hardly a product has; `all` is none.
    #[arg(long, env = "ETL_PROFILE", default_value = "default", value_enum)]
    pub profile: Profile,
    #[command(flatten)]
    pub filter: Filter,
    /// Keep line, reason and barcode of each rejected record in the table catalog.rejects.
    #[arg(long, env = "ETL_KEEP_REJECTS")]
    pub keep_rejects: bool,
}

impl Choice {
    /// Which records become products, in words that are the same for the same choice, whether rejects are kept or not.
    pub(crate) fn rules(&self) -> String {
        format!("{:?}", Self { keep_rejects: false, ..self.clone() })
    }
}

impl From<Profile> for Choice {
    /// Everything that keeps the rules of `profile`.
    fn from(profile: Profile) -> Self {
        Self { profile, filter: Filter::default(), keep_rejects: false }
    }
}

/// A source of products.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceName {
    /// The built-in sample.
    Sample,
    /// The HTTP API.
    Api,
    /// What changed in the last days.
    Deltas,
    /// An export on standard input.
    Input,
    /// An export on this machine.
    File(PathBuf),
    /// An export on another one.
    Address(Url),
}

impl FromStr for SourceName {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(match text {
            "sample" => Self::Sample,
            "api" => Self::Api,
            "deltas" => Self::Deltas,
            "-" => Self::Input,
            _ => match Url::parse(text) {
                Ok(url) if matches!(url.scheme(), "http" | "https") => Self::Address(url),
                _ => Self::File(text.into()),
            },
        })
    }
}

impl fmt::Display for SourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sample => f.write_str("the built-in sample"),
            Self::Api => f.write_str("the Open Food Facts API"),
            Self::Deltas => f.write_str("the changes of the last days"),
            Self::Input => f.write_str("standard input"),
            Self::File(path) => path.display().fmt(f),
            Self::Address(url) => url.fmt(f),
        }
    }
}
