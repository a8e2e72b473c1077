//! The HTTP edge every service has: its API and the document of it, problems and limits; health and metrics on another port.

mod ask;
mod connections;
mod extract;
mod health;
mod hosts;
mod observe;
mod problem;
mod room;
mod server;

pub use ask::ask_whether_ready;
pub(crate) use ask::get;
pub use extract::{ApiJson, ApiPath, ApiQuery};
pub use health::show_metrics;
pub use hosts::Hosts;
pub use problem::Problem;
pub use server::{document, serve};

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Where the service answers.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub struct Config {
    /// The address it listens on; 0.0.0.0 lets other machines in.
    #[arg(long, env = "HTTP_SERVICE_HOST", default_value = "127.0.0.1", value_name = "ADDRESS")]
    pub http_service_host: IpAddr,
    /// The port of its API; 0 takes any that is free.
    #[arg(long, env = "HTTP_SERVICE_PORT", value_name = "PORT")]
    pub http_service_port: u16,
    /// The port of /livez, /readyz and /metrics, which is not for the public; 0 takes any that is free.
    #[arg(long, env = "HEALTH_PORT", value_name = "PORT")]
    pub health_port: u16,
    #[command(flatten)]
    pub hosts: Hosts,
}

impl Config {
    /// On these ports of the loopback address; 0 is any port that is free.
    pub fn on_loopback(api: u16, health: u16) -> Self {
        Self {
            http_service_host: Ipv4Addr::LOCALHOST.into(),
            http_service_port: api,
            health_port: health,
            hosts: Hosts::default(),
        }
    }

    /// Where this machine reaches the health port.
    pub(crate) fn health_address(&self) -> SocketAddr {
        // Who listens on every address is asked on the nearest.
        let host = match self.http_service_host {
            IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
            host => host,
        };
        SocketAddr::new(host, self.health_port)
    }
}
