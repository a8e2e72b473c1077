#![doc = include_str!("../README.md")]

mod api;
mod config;
mod deposits;
mod domain;
mod events;
mod households;
mod metrics;
mod products;
mod registrar;
mod runner;
mod stats;
mod trace;

pub use config::Config;

use api::Api;
use households::Households;
use off_events::streams;
use off_kit::{
    Bus, Kit, Service,
    auth::{TokenSource, Verifier},
    bus,
    telemetry::Metric,
};
use products::Products;
use runner::Runner;
use stats::Stats;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;

/// Simulates households.
#[derive(Debug)]
pub struct Generator;

/// The state that handlers share.
#[derive(Debug, Clone)]
struct App {
    api: Api,
    households: Households,
    stats: Stats,
    seed: u64,
}

impl Service for Generator {
    const NAME: &'static str = "generator";
    const ABOUT: &'static str = "Simulates households: people register, consume products and reorder what is low.";
    const PORT: u16 = 8084;
    const METRICS: &'static [Metric] = &metrics::METRICS;
    type Config = Config;

    fn openapi() -> OpenApi {
        off_kit::http::document::<()>(Self::description(), OpenApiRouter::new())
    }

    async fn start(config: Config, kit: Kit) -> anyhow::Result<()> {
        let bus = Bus::for_service(&kit, &config.bus).await?;
        bus::faults::follow(&kit, &bus, &config.bus);
        let tokens = TokenSource::start(&kit, Self::NAME, &config.credentials)?;
        let api = Api::new(&config, tokens)?;
        let app = App { api, households: Households::new(), stats: Stats::new()?, seed: config.seed };

        bus::listen(&kit, &bus, streams::DEVICES_LOW, app.clone(), events::on_stock_low);
        let products = Products::new(bus.clone());
        Runner::new(config, app, products, bus.clone(), &kit).start(&kit);
        let verifier = Verifier::start(&kit, &bus)?;
        off_kit::http::serve(&kit, &verifier, Self::description(), OpenApiRouter::new()).await?;
        kit.tasks.on_shutdown(async move { bus.close().await });
        Ok(())
    }
}
