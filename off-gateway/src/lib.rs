#![doc = include_str!("../README.md")]
mod address;
mod authenticate;
mod board;
mod client;
mod codes;
mod config;
mod cors;
mod docs;
mod exchange;
mod forward;
mod gate;
mod headers;
mod live;
mod metrics;
mod own;
mod page;
mod path;
mod rates;
mod routes;
mod session_cookie;
mod streams;
mod tls;

pub use config::{Config, RateSetting, Rates, Services, Tls};
pub use rates::Rate;

use anyhow::Context;
use authenticate::Authenticator;
use board::Board;
use cors::Cors;
use docs::Documents;
use exchange::Exchange;
use forward::Forwarder;
use gate::{Gate, Parts};
use hyper_util::service::TowerToHyperService;
use live::Live;
use off_kit::{
    Bus, Kit, Service,
    auth::Verifier,
    http::{self, Durations, Edge, NetworkLimit, Port},
    telemetry::Metric,
};
use own::Own;
use page::{Page, ServiceApis};
use rates::RateLimits;
use routes::Upstream;
use std::sync::Arc;
use streams::Streams;
use utoipa::openapi::OpenApi;

/// File descriptors for connections to services: waiting requests and streams.
const UPSTREAM_FILES: u64 = 8 * 1024;

/// The single public entry: checks requests and forwards them to the services.
#[derive(Debug)]
pub struct Gateway;

impl Service for Gateway {
    const NAME: &'static str = "gateway";
    const ABOUT: &'static str = "The single public entry: checks requests and forwards them to the services.";
    const PORT: u16 = 8080;
    const PROBLEM_CODES: &'static [&'static str] = &codes::Code::NAMES;
    const METRICS: &'static [Metric] = &metrics::METRICS;
    type Config = Config;

    fn openapi() -> OpenApi {
        http::document::<_>(Self::description(), own::routes())
    }

    async fn start(config: Config, kit: Kit) -> anyhow::Result<()> {
        let tls = tls::start(&kit, &config.tls)?;
        let bus = Bus::for_service(&kit, &config.bus).await?;
        let verifier = Verifier::start(&kit, &bus)?;
        let client = client::new();
        let board = Board::start(&kit, &config.services, &client)?;
        let documents = Documents::new(&kit, &config.services, client.clone())?;
        let streams = Streams::new(&kit, &verifier, config.max_streams, config.max_streams_per_caller);
        let live = Live::start(&kit, &bus, &config.services, &client, &board, streams.clone())?;
        let services = ServiceApis::new(&kit, &config.services, client.clone())?;
        let (trace_url, has_photos) = (config.trace_url.as_deref().map(Into::into), config.product_photos);
        let page = Page { services, live, trace_url, has_photos };
        let auth = config.services.place(Upstream::Auth)?.context("AUTH_URL: it is needed")?;
        let exchange = Exchange::new(&kit, client.clone(), auth.api);
        let rates = Arc::new(RateLimits::new(|class| config.rates.of(class)));
        let forwarder = Forwarder::new(&kit, &config, client, streams)?;
        let gate = Gate(Arc::new(Parts {
            authenticator: Authenticator { verifier, exchange, rates: rates.clone() },
            rates,
            cors: Cors::new(config.cors_origins),
            forwarder,
            own: TowerToHyperService::new(Own::new(&kit, board, documents, page)?.router()),
            durations: Durations::new(Self::NAME),
            trusted_proxies: config.trusted_proxies,
        }));
        let max = if config.trusted_proxies == 0 { config.max_connections_per_address } else { 0 };
        let edge = Edge { tls, other_files: UPSTREAM_FILES, connections: NetworkLimit::new(max) };
        http::listen(&kit, gate, Port::Edge(edge)).await?;
        kit.tasks.on_shutdown(async move { bus.close().await });
        Ok(())
    }
}
