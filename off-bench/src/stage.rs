//! A private Postgres and NATS for a benchmark, and services that use them.

use crate::{load, report::progress, store};
use anyhow::Context;
use axum::Router;
use off_events::streams;
use off_kit::{Bus, Clock, Kit, Running, Service, bus, db, http, telemetry};
use off_testkit::tokens;
use sqlx::PgPool;
use std::{
    net::{Ipv4Addr, SocketAddr},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::OnceLock,
    time::Duration,
};
use tempfile::TempDir;
use tokio::{net::TcpListener, time::Instant};

/// Set once telemetry is initialized; a benchmark may have two stages.
static LOG: OnceLock<()> = OnceLock::new();

/// Orders that one statement inserts.
const INSERT_BATCH: i64 = 500_000;

/// Number of devices that order, unless a benchmark needs more.
pub const DEVICES: i64 = 1000;
/// Number of products that are ordered, unless a benchmark needs more.
pub const PRODUCTS: i64 = 1000;

/// Servers with the settings of `off up`: an order is durable before its response.
#[derive(Debug)]
pub struct Stage {
    /// Connections to the database.
    pub db: PgPool,
    /// A connection to NATS.
    pub bus: Bus,
    /// The Postgres server.
    pub postgres: off_servers::Postgres,
    /// The NATS server.
    pub nats: off_servers::Nats,
    /// Folder of the Postgres programs.
    pub programs: PathBuf,
    folder: TempDir,
}

/// The two ports of a service that runs as a separate process.
#[derive(Debug)]
pub struct Ports {
    /// Its API.
    pub address: SocketAddr,
    /// Its health port.
    pub health: SocketAddr,
    api_port: String,
    health_port: String,
}

impl Ports {
    /// Two ports that are free now.
    pub fn free() -> anyhow::Result<Self> {
        let [api, health] = off_servers::free_ports()?;
        Ok(Self {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, api)),
            health: SocketAddr::from((Ipv4Addr::LOCALHOST, health)),
            api_port: api.to_string(),
            health_port: health.to_string(),
        })
    }

    /// The environment variables that set the ports.
    pub fn settings(&self) -> [(&str, &str); 2] {
        [("HTTP_SERVICE_PORT", &self.api_port), ("HEALTH_PORT", &self.health_port)]
    }
}

impl Stage {
    /// Starts empty servers and migrates them.
    pub async fn new() -> anyhow::Result<Self> {
        if LOG.set(()).is_ok() {
            telemetry::init("off-bench", &telemetry::Config::new("warn", None))?;
        }
        let folder = tempfile::Builder::new().prefix("off-bench-").tempdir()?;
        // When this process runs as root, Postgres runs as another user that needs access to the folder.
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755))?;
        let (programs, _) = off_servers::find_postgres().await?;
        let postgres = off_servers::Postgres::start(&programs, &folder.path().join("postgres"), &[]).await?;
        let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.off/bin");
        let (program, _) = off_servers::find_nats_server(&tools).await?;
        let nats = off_servers::Nats::start(&program, &folder.path().join("nats"), &[]).await?;
        let pool = PgPool::connect(&postgres.url).await?;
        off_migrations::apply(&pool).await?;
        store::create_plain_orders(&pool).await?;
        let bus = Bus::connect(&bus::Config::at(&nats.url), "bench").await?;
        bus.connected(Duration::from_secs(10)).await?;
        bus::declare(&bus, bus::StreamStorage::default()).await?;
        Ok(Self { db: pool, bus, postgres, nats, programs, folder })
    }

    /// Stores products and devices, numbered from 1.
    pub async fn seed_data(&self, products: i64, devices: i64) -> anyhow::Result<()> {
        Ok(store::seed_data(&self.db, products, devices).await?)
    }

    /// Stores orders that ended, with their transfers, letters, deliveries and shelves.
    pub async fn store_ended(&self, orders: i64, people: i64, products: i64) -> anyhow::Result<()> {
        for first in (0..orders).step_by(usize::try_from(INSERT_BATCH)?) {
            progress(&format!("{first} of {orders} orders are stored"));
            store::store_ended(&self.db, first, INSERT_BATCH.min(orders - first), people, products).await?;
        }
        progress("storing transfers, letters, deliveries and shelves");
        store::vacuum(&self.db).await?;
        store::settle_ended(&self.db).await?;
        Ok(store::advance_checkpoints(&self.db).await?)
    }

    /// Database settings with this many connections.
    pub fn db_config(&self, connections: u32) -> db::Config {
        db::Config::at(&self.postgres.url, connections)
    }

    /// Settings of the connection to NATS.
    pub fn bus_config(&self) -> bus::Config {
        bus::Config::at(&self.nats.url)
    }

    /// Starts the orders service with its default settings.
    pub async fn start_orders(&self) -> anyhow::Result<Running> {
        let config = off_orders_service::Config::new(self.db_config(8), self.bus_config(), Duration::from_mins(4));
        start::<off_orders_service::OrdersService>(config).await
    }

    /// Starts the users service with its default settings.
    pub async fn start_users(&self) -> anyhow::Result<Running> {
        let config = off_users_service::Config {
            db: self.db_config(8),
            bus: self.bus_config(),
            auth_url: "http://127.0.0.1:8085".parse()?,
        };
        start::<off_users_service::UsersService>(config).await
    }

    /// Starts the auth service with its default settings.
    pub async fn start_auth(&self) -> anyhow::Result<Running> {
        let secret = self.folder.path().join("auth_secret");
        std::fs::write(&secret, "the master secret of a benchmark, long enough")?;
        let config = off_auth_service::Config::new(self.db_config(8), self.bus_config(), secret);
        start::<off_auth_service::AuthService>(config).await
    }

    /// Environment variables of a service that runs as a separate process.
    pub fn settings<'a>(&'a self, ports: &'a Ports) -> [(&'a str, &'a str); 4] {
        let [api, health] = ports.settings();
        [("DATABASE_URL", &self.postgres.url), ("NATS_URL", &self.nats.url), api, health]
    }

    /// Number of messages in the outbox and in the consumers' backlogs.
    pub async fn backlog(&self) -> anyhow::Result<u64> {
        let mut backlog = u64::try_from(store::count_outbox(&self.db).await?)?;
        for consumer in &streams::ORDER_CONSUMERS {
            let waiting = self.bus.backlog(consumer).await?;
            backlog += waiting.pending + waiting.unacknowledged;
        }
        Ok(backlog)
    }

    /// Waits until [`Self::backlog`] is empty; an error after three minutes.
    pub async fn wait_until_drained(&self) -> anyhow::Result<()> {
        let deadline = Instant::now() + Duration::from_mins(3);
        while self.backlog().await? > 0 {
            (Instant::now() < deadline).then_some(()).context("the backlog does not drain")?;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }

    /// Waits until the outbox is empty, even if no service consumes the events; an error after one minute.
    pub async fn wait_until_published(&self) -> anyhow::Result<()> {
        let deadline = Instant::now() + Duration::from_mins(1);
        while store::count_outbox(&self.db).await? > 0 {
            (Instant::now() < deadline).then_some(()).context("the outbox does not drain")?;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }

    /// Deletes all orders and their events, so that every round begins in the same state.
    pub async fn delete_orders(&self) -> anyhow::Result<()> {
        store::delete_orders(&self.db).await?;
        self.bus.jetstream.get_stream_no_info(streams::ORDERS.name).await?.purge().await?;
        Ok(store::checkpoint(&self.db).await?)
    }

    /// Closes the connections and stops the servers.
    pub async fn end(mut self) -> anyhow::Result<()> {
        self.bus.close().await;
        self.db.close().await;
        self.nats.stop().await?;
        self.postgres.stop().await
    }
}

/// Barcode of product `number`.
pub fn barcode(number: i64) -> String {
    let digits = number.to_string();
    format!("{}{digits}", &"2000000000000"[..13 - digits.len()])
}

/// Request body of an order; it depends on `number`. The quantity is above the reorder point, so that no `stock.low`
/// follows.
pub fn order_body(number: u64) -> anyhow::Result<String> {
    let number = i64::try_from(number)?;
    let (ssd, barcode) = (1 + number % DEVICES, barcode(1 + number / 7 % PRODUCTS));
    Ok(format!(r#"{{"ssd_id":{ssd},"barcode":"{barcode}","quantity":5}}"#))
}

/// Waits until the service with this health address is ready; an error after 20 seconds.
pub async fn wait_until_ready(health: SocketAddr) -> anyhow::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !load::fetch(health, "/readyz")
        .await
        .is_ok_and(|body| String::from_utf8_lossy(&body).contains(r#""ready":true"#))
    {
        (Instant::now() < deadline).then_some(()).with_context(|| format!("no service is ready at {health}"))?;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// Serves `router` on a free port of this machine; returns the address.
pub async fn serve(router: Router) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(axum::serve(listener, router).into_future());
    Ok(address)
}

/// Starts `S` on a free port of this machine.
pub async fn start<S: Service>(config: S::Config) -> anyhow::Result<Running> {
    let http = http::Config { auth: tokens::auth_config(), ..http::Config::on_loopback(0, 0) };
    Running::start::<S>(config, Kit::new::<S>(http, Clock::real(1.0))).await
}
