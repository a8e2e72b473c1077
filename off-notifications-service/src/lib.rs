#![doc = include_str!("../README.md")]

mod config;
mod domain;
mod events;
mod metrics;

pub use config::Config;

use domain::Delay;
use off_events::streams;
use off_kit::{Bus, Clock, Kit, Service, auth::Verifier, bus, telemetry::Metric};
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;

/// Simulates the supplier and the delivery firm.
#[derive(Debug)]
pub struct NotificationsService;

/// The state that handlers share.
#[derive(Debug, Clone)]
struct App {
    bus: Bus,
    clock: Clock,
    supplier: Delay,
    delivery: Delay,
    seed: u64,
}

impl Service for NotificationsService {
    const NAME: &'static str = "notifications";
    const ABOUT: &'static str = "Simulates the supplier and the delivery firm.";
    const PORT: u16 = 8083;
    const METRICS: &'static [Metric] = &metrics::METRICS;
    type Config = Config;

    fn openapi() -> OpenApi {
        off_kit::http::document::<()>(Self::description(), OpenApiRouter::new())
    }

    async fn start(config: Config, kit: Kit) -> anyhow::Result<()> {
        let supplier = config.supplier(kit.clock.speed())?;
        let delivery = config.delivery(kit.clock.speed())?;
        let bus = Bus::for_service(&kit, &config.bus).await?;
        let app = App { bus: bus.clone(), clock: kit.clock, supplier, delivery, seed: config.seed };

        bus::listen(&kit, &bus, streams::SUPPLIER, app.clone(), events::on_order_paid);
        bus::listen(&kit, &bus, streams::DUE, app.clone(), events::on_order_due);
        bus::listen(&kit, &bus, streams::DELIVERY, app, events::on_order_shipped);
        let verifier = Verifier::start(&kit, &bus)?;
        off_kit::http::serve(&kit, &verifier, Self::description(), OpenApiRouter::new()).await?;
        kit.tasks.on_shutdown(async move { bus.close().await });
        Ok(())
    }
}
