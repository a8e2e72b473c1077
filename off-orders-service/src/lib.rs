#![doc = include_str!("../README.md")]

mod codes;
mod config;
mod counter;
mod deadlines;
mod domain;
mod events;
mod http;
mod intake;
mod long_polls;
mod messages;
mod metrics;
mod order_monitor;
mod publisher;
mod recovery;
mod search;
mod store;

pub use config::Config;

use counter::Counter;
use deadlines::TimeLimits;
use intake::Intake;
use long_polls::LongPolls;
use off_events::{ORDERS_NEW, ORDERS_RANDOM, ShipRequest, streams};
use off_kit::{Bus, Clock, Kit, LogLimit, Service, auth::Verifier, bus, db, telemetry::Metric};
use publisher::Publisher;
use sqlx::PgPool;
use std::sync::Arc;
use utoipa::openapi::OpenApi;

/// The orders service: accepts orders and tracks them until they are delivered.
#[derive(Debug)]
pub struct OrdersService;

/// The state that HTTP and event handlers share.
#[derive(Debug, Clone)]
struct App {
    db: PgPool,
    clock: Clock,
    limits: TimeLimits,
    intake: Intake,
    publisher: Publisher,
    long_polls: LongPolls,
    counter: Counter,
    bus: Bus,
    /// Limits the log of messages that cannot be read.
    reading_failures: Arc<LogLimit>,
}

impl Service for OrdersService {
    const NAME: &'static str = "orders";
    const ABOUT: &'static str = "Accepts orders over HTTP and tracks them until they are delivered.";
    const PORT: u16 = 8082;
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
        let limits = config.time_limits(&kit.clock);
        let publisher = Publisher::start(&kit, &db, &bus);
        let intake = Intake::start(&kit, db.clone(), publisher.clone(), limits);
        db::need_same_time(&kit, &db, store::CLOCK_TOLERANCE);
        recovery::start(&kit, &db, &bus, limits, intake.busy_time());
        order_monitor::start(&kit, &db);
        let (long_polls, counter) = (LongPolls::new(&kit), Counter::default());
        let app = App {
            db,
            clock: kit.clock,
            limits,
            intake,
            publisher,
            long_polls,
            counter,
            bus: bus.clone(),
            reading_failures: Arc::default(),
        };

        bus::respond(&kit, &bus, ORDERS_RANDOM, ORDERS_NEW, app.clone(), events::on_order_random);
        bus::reply(&kit, &bus, ShipRequest::SUBJECT, app.clone(), events::on_ship_request);
        bus::listen(&kit, &bus, streams::ORDERS_PAID, app.clone(), events::on_order_paid);
        bus::listen(&kit, &bus, streams::ORDERS_REFUSED, app.clone(), events::on_order_refused);
        bus::listen(&kit, &bus, streams::ORDERS_COMPLETED, app.clone(), events::on_order_completed);
        let verifier = Verifier::start(&kit, &bus)?;
        off_kit::http::serve(&kit, &verifier, Self::description(), http::routes().with_state(app)).await?;
        kit.tasks.on_shutdown(async move { bus.close().await });
        Ok(())
    }
}
