#![doc = include_str!("../README.md")]

mod codes;
mod config;
mod devices;
mod domain;
mod events;
mod http;
mod metrics;
mod profile;
mod registration;
mod remind;
mod shelves;
mod sign_in;
mod store;

pub use config::Config;

use off_events::{ORDERS_NEW, ORDERS_RANDOM, streams};
use off_kit::{
    Bus, Clock, Kit, LogLimit, Outbox, Service, auth::Verifier, bus, db, password::Hasher, telemetry::Metric,
};
use sign_in::AuthClient;
use sqlx::PgPool;
use std::sync::Arc;
use utoipa::openapi::OpenApi;

/// Manages people, their devices and the products on their shelves.
#[derive(Debug)]
pub struct UsersService;

/// The state that handlers share.
#[derive(Debug, Clone)]
struct App {
    db: PgPool,
    clock: Clock,
    outbox: Outbox,
    hasher: Hasher,
    auth: AuthClient,
    /// Of sign-ins that fail.
    log_limit: Arc<LogLimit>,
}

impl Service for UsersService {
    const NAME: &'static str = "users";
    const ABOUT: &'static str = "Manages people, their devices and the products on their shelves.";
    const PORT: u16 = 8081;
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
        remind::start(&kit, &db, &bus);
        let app = App {
            db,
            clock: kit.clock,
            outbox: outbox.clone(),
            hasher: Hasher::new(),
            auth: AuthClient::new(&kit, &config.auth_url)?,
            log_limit: Arc::default(),
        };

        bus::respond(&kit, &bus, ORDERS_RANDOM, ORDERS_NEW, app.clone(), events::on_order_random);
        bus::listen(&kit, &bus, streams::SHELVES_DELIVERED, app.clone(), events::on_order_completed);
        bus::listen(&kit, &bus, streams::SHELVES_REFUSED, app.clone(), events::on_order_ended);
        bus::listen(&kit, &bus, streams::SHELVES_CANCELLED, app.clone(), events::on_order_ended);
        bus::listen(&kit, &bus, streams::SHELVES_CONSUMED, app.clone(), events::on_stock_consumed);
        let verifier = Verifier::start(&kit, &bus)?;
        off_kit::http::serve(&kit, &verifier, Self::description(), http::routes().with_state(app)).await?;
        kit.tasks.on_shutdown(async move {
            outbox.flush().await;
            bus.close().await;
        });
        Ok(())
    }
}
