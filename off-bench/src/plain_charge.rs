//! A plain billing service to compare with: it charges each order in a transaction of its own.

use crate::{Stage, stage, store};
use futures::{StreamExt, TryStreamExt, stream};
use off_events::{Order, OrderStatus, streams};
use off_kit::{
    Bus, Clock, Kit, Running, Service,
    auth::Verifier,
    bus::{self, Batch, Failure, OutboundMessage},
    db, http,
};
use sqlx::{PgPool, postgres::PgPoolOptions};
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;

/// Starts the plain billing service with this many connections, and so transactions at a time.
pub async fn start(stage: &Stage, connections: u32) -> anyhow::Result<Running> {
    stage::start::<PlainBilling>(Config { db: stage.db_config(connections), bus: stage.bus_config() }).await
}

/// Charges the orders over this many connections, without a broker.
pub async fn charge_all(stage: &Stage, orders: &[Order], connections: u32) -> anyhow::Result<()> {
    let db = PgPoolOptions::new().min_connections(connections).max_connections(connections);
    let db = db.connect(&stage.postgres.url).await?;
    let all = stream::iter(orders.iter().map(Ok));
    all.try_for_each_concurrent(connections as usize, async |order| store::charge_plainly(&db, order).await.map(drop))
        .await?;
    db.close().await;
    Ok(())
}

struct PlainBilling;

#[derive(clap::Args)]
struct Config {
    #[command(flatten)]
    db: db::Config,
    #[command(flatten)]
    bus: bus::Config,
}

#[derive(Clone)]
struct App {
    db: PgPool,
    bus: Bus,
    clock: Clock,
    transactions: usize,
}

impl Service for PlainBilling {
    const NAME: &'static str = "plain-billing";
    const ABOUT: &'static str = "Charges each order in a transaction of its own.";
    const PORT: u16 = 0;
    const HEALTH_PORT: u16 = 0;
    type Config = Config;

    fn openapi() -> OpenApi {
        http::document::<()>(Self::description(), OpenApiRouter::new())
    }

    async fn start(config: Config, kit: Kit) -> anyhow::Result<()> {
        let transactions = config.db.database_connections as usize;
        let db = db::pool_for(&kit, &config.db, off_migrations::newest())?;
        let bus = Bus::for_service(&kit, &config.bus).await?;
        let app = App { db, bus: bus.clone(), clock: kit.clock, transactions };
        bus::listen(&kit, &bus, streams::BILLING_PENDING, app, on_order_pending);
        let verifier = Verifier::start(&kit, &bus)?;
        http::serve(&kit, &verifier, Self::description(), OpenApiRouter::new()).await
    }
}

async fn on_order_pending(app: App, orders: Batch<Order>) -> Result<(), Failure> {
    let all = stream::iter(0..orders.len());
    let answered = all.map(Ok).try_for_each_concurrent(app.transactions, async |index| {
        let received = &orders[index];
        let is_paid = store::charge_plainly(&app.db, &received.event).await.map_err(Failure::of_database)?;
        let status = if is_paid { OrderStatus::Paid } else { OrderStatus::Refused };
        let message = OutboundMessage::caused_by(
            received,
            PlainBilling::NAME,
            &received.event.with_status(status),
            app.clock.now(),
        );
        let message = message.map_err(|error| Failure::Reject(error.to_string()))?;
        app.bus.publish(message).await.map_err(|error| Failure::Unavailable(error.into()))
    });
    answered.await
}
