//! Settings.

use url::Url;

/// The settings of the users service.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub struct Config {
    /// The database.
    #[command(flatten)]
    pub db: off_kit::db::Config,
    /// The broker.
    #[command(flatten)]
    pub bus: off_kit::bus::Config,
    /// The URL of the auth service, which signs in people who have just registered.
    #[arg(long, env = "AUTH_URL", value_name = "URL", default_value = "http://127.0.0.1:8085")]
    pub auth_url: Url,
}
