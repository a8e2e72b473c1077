#![doc = include_str!("../README.md")]

mod audits;
mod broker;
mod codes;
mod config;
mod http;
mod metrics;
mod poison;
mod replays;
mod store;

pub use config::Config;

use audits::Audits;
use off_kit::{Bus, Clock, Kit, LogLimit, Service, auth::Verifier, bus, db, telemetry::Metric};
use replays::Replays;
use sqlx::PgPool;
use std::sync::Arc;
use utoipa::openapi::OpenApi;

/// Looks after what went wrong: dead letters, streams, overdue orders, imports, audits.
#[derive(Debug)]
pub struct OperatorService;

/// The state that handlers share.
#[derive(Debug, Clone)]
struct App {
    db: PgPool,
    bus: Bus,
    clock: Clock,
    audits: Audits,
    replays: Replays,
    log_limit: Arc<LogLimit>,
    /// Whether failure switches may be changed here.
    allows_faults: bool,
}

impl Service for OperatorService {
    const NAME: &'static str = "operator";
    const ABOUT: &'static str = "Looks after what went wrong: dead letters, streams, overdue orders, imports, audits.";
    const PORT: u16 = 8087;
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
        let audits = Audits::start(&kit, &db, &bus, config.audit_patience);
        let replays = Replays::start(&kit, &bus);
        poison::start(&kit, &bus);
        let allows_faults = config.bus.allow_faults;
        let (bus_of_app, log_limit) = (bus.clone(), Arc::default());
        let app = App { db, bus: bus_of_app, clock: kit.clock, audits, replays, log_limit, allows_faults };
        let verifier = Verifier::start(&kit, &bus)?;
        off_kit::http::serve(&kit, &verifier, Self::description(), http::routes().with_state(app)).await?;
        kit.tasks.on_shutdown(async move { bus.close().await });
        Ok(())
    }
}
