//! Settings.

/// The settings of the billing service.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub struct Config {
    /// The database.
    #[command(flatten)]
    pub db: off_kit::db::Config,
    /// The broker.
    #[command(flatten)]
    pub bus: off_kit::bus::Config,
}
