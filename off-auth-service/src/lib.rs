#![doc = include_str!("../README.md")]

mod attempts;
mod clients;
mod codes;
mod config;
mod device_keys;
mod domain;
mod events;
mod housekeeping;
mod http;
mod keys;
mod metrics;
mod password;
mod refresh;
mod refusal;
mod secret;
mod sign_in;
mod store;
mod tokens;

pub use config::Config;

use attempts::Verifications;
use domain::{AttemptLimits, SessionLimits};
use keys::Keys;
use off_kit::{
    Bus, Clock, Kit, Outbox, Service,
    auth::{KeySet, Verifier},
    db,
    password::Hasher,
    telemetry::Metric,
};
use secret::Secrets;
use sqlx::PgPool;
use std::sync::Arc;
use utoipa::openapi::OpenApi;

/// Signs people, devices and clients in, and issues and revokes their tokens.
#[derive(Debug)]
pub struct AuthService;

/// The state that handlers share.
#[derive(Debug, Clone)]
struct App {
    db: PgPool,
    clock: Clock,
    outbox: Outbox,
    hasher: Hasher,
    keys: Keys,
    secrets: Arc<Secrets>,
    attempt_limits: AttemptLimits,
    verifications: Verifications,
    session_limits: SessionLimits,
    verifier: Verifier,
    /// The issuer that tokens name.
    issuer: Arc<str>,
}

impl Service for AuthService {
    const NAME: &'static str = "auth";
    const ABOUT: &'static str = "Signs people, devices and clients in, and issues and revokes their tokens.";
    const PORT: u16 = 8085;
    const PROBLEM_CODES: &'static [&'static str] = &codes::Code::NAMES;
    const METRICS: &'static [Metric] = &metrics::METRICS;
    type Config = Config;

    fn openapi() -> OpenApi {
        off_kit::http::document::<_>(Self::description(), http::routes())
    }

    async fn start(config: Config, kit: Kit) -> anyhow::Result<()> {
        let secrets = Arc::new(Secrets::read(&config.auth_secret_file)?);
        let db = db::pool_for(&kit, &config.db, off_migrations::newest())?;
        let bus = Bus::for_service(&kit, &config.bus).await?;
        let outbox = Outbox::start(&kit, &db, &bus);
        let public_keys = KeySet::default();
        let keys = Keys::start(&kit, &db, &secrets, public_keys.clone());
        let verifier = Verifier::with_keys(&kit, &bus, public_keys);
        housekeeping::start(&kit, &db);
        let verifications = Verifications::new();
        let app = App {
            db,
            clock: kit.clock,
            outbox: outbox.clone(),
            attempt_limits: config.attempt_limits(),
            session_limits: config.session_limits(),
            hasher: config.hasher,
            keys,
            secrets,
            verifications: verifications.clone(),
            verifier: verifier.clone(),
            issuer: kit.http.auth.auth_issuer.as_str().into(),
        };
        off_kit::http::serve(&kit, &verifier, Self::description(), http::routes().with_state(app)).await?;
        kit.tasks.on_shutdown(async move {
            verifications.ended().await;
            outbox.flush().await;
            bus.close().await;
        });
        Ok(())
    }
}
