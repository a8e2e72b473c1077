//! The HTTP server of each service: its API and OpenAPI document, problems and limits. Health and metrics are on
//! another port.

mod ask;
mod codes;
mod connections;
mod edge;
mod extract;
mod health;
mod hosts;
mod idempotency_key;
mod load_shedding;
mod network_limit;
mod observe;
mod page;
mod parked;
mod problem;
mod request_source;
mod rules;
mod server;

pub use ask::{ask_whether_ready, get};
pub use codes::{CommonCode, ProblemCode};
pub use connections::MAX_HEAD_BYTES;
pub use edge::{Edge, Peer};
pub use extract::{ApiJson, ApiPath, ApiQuery};
pub use health::show_metrics;
pub use hosts::Hosts;
pub use idempotency_key::IdempotencyKey;
pub use network_limit::{Held, Network, NetworkLimit};
pub use observe::Durations;
pub use page::{PageSize, cut_page};
pub use problem::Problem;
pub use request_source::RequestSource;
pub use server::{Description, Port, document, listen, serve};

use crate::{auth, telemetry::Metric};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The metrics of this module.
pub(crate) const METRICS: [Metric; 3] = [
    Metric::histogram("off_http_request_duration_seconds", "Duration of requests"),
    Metric::gauge("off_http_connections", "Open HTTP connections"),
    Metric::counter("off_http_shed_total", "Requests rejected by load shedding"),
];

/// The addresses and host names of a service.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub struct Config {
    /// The address to listen on; 0.0.0.0 accepts connections from other machines.
    #[arg(long, env = "HTTP_SERVICE_HOST", default_value = "127.0.0.1", value_name = "ADDRESS")]
    pub http_service_host: IpAddr,
    /// The port of the API; 0 selects any free port.
    #[arg(long, env = "HTTP_SERVICE_PORT", value_name = "PORT")]
    pub http_service_port: u16,
    /// The port of /livez, /readyz and /metrics. Do not publish it. 0 selects any free port.
    #[arg(long, env = "HEALTH_PORT", value_name = "PORT")]
    pub health_port: u16,
    /// The host names of requests that are accepted.
    #[command(flatten)]
    pub hosts: Hosts,
    /// The keys that verify access tokens.
    #[command(flatten)]
    pub auth: auth::Config,
}

impl Config {
    /// Listens on these ports of the loopback address; 0 is any free port.
    pub fn on_loopback(api: u16, health: u16) -> Self {
        Self {
            http_service_host: Ipv4Addr::LOCALHOST.into(),
            http_service_port: api,
            health_port: health,
            hosts: Hosts::default(),
            auth: auth::Config::default(),
        }
    }

    /// The address of the health port for clients on this machine.
    pub(crate) fn health_address(&self) -> SocketAddr {
        // A service that listens on all addresses is reachable on loopback.
        let host = match self.http_service_host {
            IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
            host => host,
        };
        SocketAddr::new(host, self.health_port)
    }
}
