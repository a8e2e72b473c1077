//! Its settings.

use crate::{ApiConfig, product::Profile};
use std::{convert::Infallible, fmt, net::SocketAddr, path::PathBuf, str::FromStr};

/// The settings of the importer.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub struct Config {
    /// Where products come from: `sample`, `api`, or the path of a JSONL export, plain or .gz.
    #[arg(env = "ETL_SOURCE", default_value = "sample", value_name = "SOURCE")]
    pub source: SourceName,
    /// Which state tags a record needs: `strict` is the original list with en:checked, which hardly a product has.
    #[arg(long, env = "ETL_PROFILE", default_value = "default", value_enum)]
    pub profile: Profile,
    #[command(flatten)]
    pub api: ApiConfig,
    /// Where its metrics are shown while it runs, like 0.0.0.0:8080; nowhere without it.
    #[arg(long, env = "ETL_METRICS", value_name = "ADDRESS")]
    pub metrics: Option<SocketAddr>,
    #[command(flatten)]
    pub db: off_kit::db::Config,
    #[command(flatten)]
    pub log: off_kit::telemetry::Config,
}

/// A source of products.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceName {
    /// The built-in sample.
    Sample,
    /// The HTTP API.
    Api,
    /// A JSONL export.
    File(PathBuf),
}

impl FromStr for SourceName {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(match text {
            "sample" => Self::Sample,
            "api" => Self::Api,
            path => Self::File(path.into()),
        })
    }
}

impl fmt::Display for SourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sample => f.write_str("the built-in sample"),
            Self::Api => f.write_str("the Open Food Facts API"),
            Self::File(path) => path.display().fmt(f),
        }
    }
}
