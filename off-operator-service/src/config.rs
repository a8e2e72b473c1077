//! Settings.

use std::time::Duration;

/// The settings of the operator service.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub struct Config {
    /// The database.
    #[command(flatten)]
    pub db: off_kit::db::Config,
    /// The broker.
    #[command(flatten)]
    pub bus: off_kit::bus::Config,
    /// How long a problem must persist to be a finding of an audit; overdue orders may be recovered in this time.
    #[arg(long, env = "AUDIT_PATIENCE", default_value = "30s", value_name = "DURATION",
        value_parser = humantime::parse_duration)]
    pub audit_patience: Duration,
}
