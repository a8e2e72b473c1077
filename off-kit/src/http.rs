//! The HTTP edge every service has: its API and the document of it, health, metrics, problems, limits.

mod ask;
mod connections;
mod extract;
mod observe;
mod problem;
mod room;
mod server;

pub use ask::ask_whether_ready;
pub use extract::{ApiJson, ApiPath, ApiQuery};
pub use problem::Problem;
pub use server::{document, serve, show_metrics};

use std::net::IpAddr;

/// Where the service answers.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub struct Config {
    /// The address it listens on; 0.0.0.0 lets other machines in.
    #[arg(long, env = "HTTP_SERVICE_HOST", default_value = "127.0.0.1", value_name = "ADDRESS")]
    pub http_service_host: IpAddr,
    /// The port it listens on; 0 takes any that is free.
    #[arg(long, env = "HTTP_SERVICE_PORT", value_name = "PORT")]
    pub http_service_port: u16,
}
