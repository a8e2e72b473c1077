#![doc = include_str!("../README.md")]

mod charge;
mod codes;
mod config;
mod domain;
mod events;
mod http;
mod ledger_monitor;
mod metrics;
mod payment;
mod store;

pub use config::Config;

use off_events::streams;
use off_kit::{Bus, Clock, Kit, Outbox, Service, auth::Verifier, bus, db, telemetry::Metric};
use sqlx::PgPool;
use utoipa::openapi::OpenApi;

/// Keeps the accounts of people: charges orders, refunds them, and books revenue.
#[derive(Debug)]
pub struct BillingService;

/// The state that handlers share.
#[derive(Debug, Clone)]
struct App {
    db: PgPool,
    bus: Bus,
    clock: Clock,
    outbox: Outbox,
}

impl Service for BillingService {
    const NAME: &'static str = "billing";
    const ABOUT: &'static str = "Keeps the accounts of people: charges orders, refunds them, and books revenue.";
    const PORT: u16 = 8086;
    const PROBLEM_CODES: &'static [&'static str] = &codes::Code::NAMES;
    const METRICS: &'static [Metric] = &metrics::METRICS;
    type Config = Config;

    fn openapi() -> OpenApi {
        off_kit::http::document::<_>(Self::description(), http::routes())
    }

    async fn start(config: Config, kit: Kit) -> anyhow::Result<()> {
        let db = db::pool_for(&kit, &config.db, off_migrations::newest())?;
        let bus = Bus::for_service(&kit, &config.bus).await?;
        bus::faults::follow(&kit, &bus, &config.bus);
        let outbox = Outbox::start(&kit, &db, &bus);
        ledger_monitor::start(&kit, &db);
        let app = App { db, bus: bus.clone(), clock: kit.clock, outbox: outbox.clone() };

        bus::listen(&kit, &bus, streams::BILLING_REGISTERED, app.clone(), events::on_user_registered);
        bus::listen(&kit, &bus, streams::BILLING_PENDING, app.clone(), events::on_order_pending);
        bus::listen(&kit, &bus, streams::BILLING_COMPLETED, app.clone(), events::on_order_completed);
        bus::listen(&kit, &bus, streams::BILLING_CANCELLED, app.clone(), events::on_order_cancelled);
        let verifier = Verifier::start(&kit, &bus)?;
        off_kit::http::serve(&kit, &verifier, Self::description(), http::routes().with_state(app)).await?;
        kit.tasks.on_shutdown(async move {
            outbox.flush().await;
            bus.close().await;
        });
        Ok(())
    }
}
