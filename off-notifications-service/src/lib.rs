#![doc = include_str!("../README.md")]

mod config;
mod domain;
mod events;
mod http;
mod mail_monitor;
mod mailer;
mod metrics;
mod relay;
mod store;
mod text;

pub use config::{Config, MailConfig};
pub use relay::check_mail_server;

use domain::Delay;
use mailer::MailQueue;
use off_events::streams;
use off_kit::{Bus, Clock, Kit, Service, auth::Verifier, bus, db, jobs, telemetry::Metric};
use relay::Relay;
use sqlx::PgPool;
use utoipa::openapi::OpenApi;

/// Simulates the supplier and the delivery firm, and writes letters to people.
#[derive(Debug)]
pub struct NotificationsService;

/// The state that handlers share.
#[derive(Debug, Clone)]
struct App {
    db: PgPool,
    bus: Bus,
    clock: Clock,
    supplier: Delay,
    delivery: Delay,
    seed: u64,
    /// How many letters are sent to a person by e-mail in an hour; 0 without a mail server.
    mails_per_person: u32,
}

impl Service for NotificationsService {
    const NAME: &'static str = "notifications";
    const ABOUT: &'static str = "Simulates the supplier and the delivery firm, and writes letters to people.";
    const PORT: u16 = 8083;
    const METRICS: &'static [Metric] = &metrics::METRICS;
    type Config = Config;

    fn openapi() -> OpenApi {
        off_kit::http::document::<_>(Self::description(), http::routes())
    }

    async fn start(config: Config, kit: Kit) -> anyhow::Result<()> {
        let supplier = config.supplier(kit.clock.speed())?;
        let delivery = config.delivery(kit.clock.speed())?;
        let relay = Relay::new(&config.mail)?;
        let db = db::pool_for(&kit, &config.db, off_migrations::newest())?;
        let bus = Bus::for_service(&kit, &config.bus).await?;
        bus::faults::follow(&kit, &bus, &config.bus);
        let app = App {
            db: db.clone(),
            bus: bus.clone(),
            clock: kit.clock,
            supplier,
            delivery,
            seed: config.seed,
            mails_per_person: if relay.is_some() { config.mail.smtp_per_person } else { 0 },
        };

        bus::listen(&kit, &bus, streams::SUPPLIER, app.clone(), events::on_order_paid);
        bus::listen(&kit, &bus, streams::DUE, app.clone(), events::on_order_due);
        bus::listen(&kit, &bus, streams::DELIVERY, app.clone(), events::on_order_shipped);
        bus::listen(&kit, &bus, streams::LETTERS_REGISTERED, app.clone(), events::write_welcome);
        bus::listen(&kit, &bus, streams::LETTERS_LOW_BALANCE, app.clone(), events::write_about_low_balance);
        bus::listen(&kit, &bus, streams::LETTERS_PAID, app.clone(), events::write_about_paid);
        bus::listen(&kit, &bus, streams::LETTERS_REFUSED, app.clone(), events::write_about_refused);
        bus::listen(&kit, &bus, streams::LETTERS_CANCELLED, app.clone(), events::write_about_cancelled);
        bus::listen(&kit, &bus, streams::LETTERS_COMPLETED, app.clone(), events::write_about_completed);
        if let Some(relay) = relay {
            mail_monitor::start(&kit, &db);
            jobs::run(&kit.tasks, MailQueue { db, clock: kit.clock, relay }, config.mail.limits());
        }
        let verifier = Verifier::start(&kit, &bus)?;
        off_kit::http::serve(&kit, &verifier, Self::description(), http::routes().with_state(app)).await?;
        kit.tasks.on_shutdown(async move { bus.close().await });
        Ok(())
    }
}
