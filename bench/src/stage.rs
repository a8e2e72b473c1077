//! A Postgres and a NATS of a benchmark's own, and services beside them.

use crate::{load, plain};
use anyhow::Context;
use axum::Router;
use off_events::streams;
use off_kit::{Bus, Clock, Kit, Service, Tasks, bus, db, http, servers, telemetry};
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

/// Set once the log is written; a benchmark may have two stages.
static LOG: OnceLock<()> = OnceLock::new();

/// Devices and products that orders are for, unless a benchmark asks for more.
pub const SSDS: i64 = 1000;
pub const PRODUCTS: i64 = 1000;

/// Servers as `off up` has them: everything an order needs is on disk before it is answered.
#[derive(Debug)]
pub struct Stage {
    pub db: PgPool,
    pub bus: Bus,
    pub postgres: servers::Postgres,
    pub nats: servers::Nats,
    /// Where the programs of Postgres are.
    pub programs: PathBuf,
    _folder: TempDir,
}

/// A service that runs in this process.
#[derive(Debug)]
pub struct Running {
    /// Its API.
    pub address: SocketAddr,
    /// Its health port.
    pub health: SocketAddr,
    tasks: Tasks,
}

/// The two ports of a service that runs as a process of its own.
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
    /// Two that are free now.
    pub fn free() -> anyhow::Result<Self> {
        let [api, health] = servers::free_ports()?;
        Ok(Self {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, api)),
            health: SocketAddr::from((Ipv4Addr::LOCALHOST, health)),
            api_port: api.to_string(),
            health_port: health.to_string(),
        })
    }

    pub fn settings(&self) -> [(&str, &str); 2] {
        [("HTTP_SERVICE_PORT", &self.api_port), ("HEALTH_PORT", &self.health_port)]
    }
}

impl Stage {
    /// Empty servers, migrated.
    pub async fn new() -> anyhow::Result<Self> {
        if LOG.set(()).is_ok() {
            telemetry::init("off-bench", &telemetry::Config::new("warn", None))?;
        }
        let folder = tempfile::Builder::new().prefix("off-bench-").tempdir()?;
        // Root's Postgres runs as another user, who has to get to its files.
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755))?;
        let (programs, _) = servers::find_postgres().await?;
        let postgres = servers::Postgres::start(&programs, &folder.path().join("postgres"), &[]).await?;
        let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.off/bin");
        let (program, _) = servers::find_nats_server(&tools).await?;
        let nats = servers::Nats::start(&program, &folder.path().join("nats"), &[]).await?;
        let pool = PgPool::connect(&postgres.url).await?;
        db::migrate(&pool, Duration::from_secs(10)).await?;
        plain::create_table(&pool).await?;
        let bus = Bus::connect(&bus::Config::at(&nats.url), "bench").await?;
        bus.connected(Duration::from_secs(10)).await?;
        bus::declare(&bus, bus::Keeping::default()).await?;
        Ok(Self { db: pool, bus, postgres, nats, programs, _folder: folder })
    }

    /// The same as [`settle`], here.
    pub async fn settle(&self, products: i64, ssds: i64) -> anyhow::Result<()> {
        settle(&self.db, products, ssds).await
    }

    pub fn db_config(&self, connections: u32) -> db::Config {
        db::Config::at(&self.postgres.url, connections)
    }

    pub fn bus_config(&self) -> bus::Config {
        bus::Config::at(&self.nats.url)
    }

    /// The orders service with its default settings.
    pub async fn start_orders(&self) -> anyhow::Result<Running> {
        let config = off_orders_service::Config::new(self.db_config(8), self.bus_config(), Duration::from_mins(4));
        start::<off_orders_service::OrdersService>(config).await
    }

    /// The users service with its default settings.
    pub async fn start_users(&self) -> anyhow::Result<Running> {
        let config = off_users_service::Config { db: self.db_config(8), bus: self.bus_config() };
        start::<off_users_service::UsersService>(config).await
    }

    /// What a service needs that runs as a process of its own.
    pub fn settings<'a>(&'a self, ports: &'a Ports) -> [(&'a str, &'a str); 4] {
        let [api, health] = ports.settings();
        [("DATABASE_URL", &self.postgres.url), ("NATS_URL", &self.nats.url), api, health]
    }

    /// What waits in the outbox and before the consumers.
    pub async fn backlog(&self) -> anyhow::Result<u64> {
        let outbox: i64 = sqlx::query_scalar("SELECT count(*) FROM outbox.messages").fetch_one(&self.db).await?;
        let mut backlog = u64::try_from(outbox)?;
        for consumer in &streams::ORDER_CONSUMERS {
            let waiting = self.bus.waiting(consumer).await?;
            backlog += waiting.pending + waiting.in_hand;
        }
        Ok(backlog)
    }

    pub async fn wait_until_level(&self) -> anyhow::Result<()> {
        let deadline = Instant::now() + Duration::from_mins(3);
        while self.backlog().await? > 0 {
            (Instant::now() < deadline).then_some(()).context("the queues do not empty")?;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }

    /// Waits until the outbox is empty, whether anybody reads what was carried or not.
    pub async fn wait_until_carried(&self) -> anyhow::Result<()> {
        let deadline = Instant::now() + Duration::from_mins(1);
        let rows = "SELECT count(*) FROM outbox.messages";
        while sqlx::query_scalar::<_, i64>(rows).fetch_one(&self.db).await? > 0 {
            (Instant::now() < deadline).then_some(()).context("the outbox does not empty")?;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }

    /// Forgets all orders, so that every round begins with the same.
    pub async fn forget_orders(&self) -> anyhow::Result<()> {
        sqlx::query("TRUNCATE orders.product_orders, outbox.messages, bench.product_orders").execute(&self.db).await?;
        self.bus.jetstream.get_stream_no_info("ORDERS").await?.purge().await?;
        sqlx::query("CHECKPOINT").execute(&self.db).await?;
        Ok(())
    }

    /// Stores `count` completed orders from the number `first` on.
    pub async fn store_completed(&self, first: i64, count: i64, ssds: i64, products: i64) -> anyhow::Result<()> {
        // UUIDs of version 7, one for each millisecond since 2023-11-14.
        sqlx::query(
            "INSERT INTO orders.product_orders
                 (id, ssd_id, barcode, quantity, status, placed_at, shipped_at, completed_at)
             SELECT (lpad(to_hex(1700000000000 + n), 12, '0') || '70008000' || lpad(to_hex(n), 12, '0'))::uuid,
                    1 + n * 7919 % $3, lpad((1 + n * 104729 % $4)::text, 13, '2000000000000'), 1, 'completed',
                    placed_at, placed_at + interval '1 minute', placed_at + interval '2 minutes'
             FROM generate_series($1, $1 + $2 - 1) AS n,
                  LATERAL (SELECT to_timestamp((1700000000000 + n) / 1000.0) AS placed_at) AS time",
        )
        .bind(first)
        .bind(count)
        .bind(ssds)
        .bind(products)
        .execute(&self.db)
        .await?;
        Ok(())
    }

    /// Tells recovery that it has checked every order that is stored.
    pub async fn pass_checkpoints(&self) -> anyhow::Result<()> {
        sqlx::query(
            "UPDATE orders.checkpoints
             SET orders = (SELECT count(*) FROM orders.product_orders),
                 through = coalesce((SELECT id FROM orders.product_orders ORDER BY id DESC LIMIT 1), through)",
        )
        .execute(&self.db)
        .await?;
        Ok(())
    }

    pub async fn end(mut self) -> anyhow::Result<()> {
        self.bus.close().await;
        self.db.close().await;
        self.nats.stop().await?;
        self.postgres.stop().await
    }
}

/// Products and devices to order, numbered from 1.
pub async fn settle(db: &PgPool, products: i64, ssds: i64) -> anyhow::Result<()> {
    sqlx::query(
        "INSERT INTO catalog.products (barcode, number, name, quantity, nova_group, nutriscore_grade, last_modified)
         SELECT lpad(n::text, 13, '2000000000000'), n, 'Product ' || n, '500 g', 1, 'a', now()
         FROM generate_series(1, $1) AS n",
    )
    .bind(products)
    .execute(db)
    .await?;
    sqlx::query(
        "WITH person AS (
             INSERT INTO users.users (first_name, last_name, email, password_hash, registered_at)
             VALUES ('Ada', 'Example', 'ada@example.org', '-', now()) RETURNING id
         )
         INSERT INTO users.ssds (user_id, mac_address)
         -- Addresses of the devices that the generator plays.
         SELECT person.id, regexp_replace(lpad(to_hex(n), 8, '0'), '(..)(..)(..)(..)', '02:0f:\\1:\\2:\\3:\\4')
         FROM person, generate_series(1, $1) AS n",
    )
    .bind(ssds)
    .execute(db)
    .await?;
    sqlx::query("ANALYZE").execute(db).await?;
    Ok(())
}

/// The barcode of product `number`.
pub fn barcode(number: i64) -> String {
    let digits = number.to_string();
    format!("{}{digits}", &"2000000000000"[..13 - digits.len()])
}

/// The body of an order, another one for every number. What it delivers is more than a shelf's reorder point, so that no
/// `stock.low` follows.
pub fn wish(number: u64) -> anyhow::Result<String> {
    let number = i64::try_from(number)?;
    let (ssd, barcode) = (1 + number % SSDS, barcode(1 + number / 7 % PRODUCTS));
    Ok(format!(r#"{{"ssd_id":{ssd},"barcode":"{barcode}","quantity":5}}"#))
}

/// Waits until the service with this health port is ready.
pub async fn wait_until_ready(health: SocketAddr) -> anyhow::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !load::fetch(health, "/readyz")
        .await
        .is_ok_and(|body| String::from_utf8_lossy(&body).contains(r#""ready":true"#))
    {
        (Instant::now() < deadline).then_some(()).with_context(|| format!("nobody is ready at {health}"))?;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// Serves `router` on a free port of this machine; says where.
pub async fn serve(router: Router) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(axum::serve(listener, router).into_future());
    Ok(address)
}

/// Starts `S` on a free port of this machine.
pub async fn start<S: Service>(config: S::Config) -> anyhow::Result<Running> {
    let http = http::Config::on_loopback(0, 0);
    let kit = Kit::new::<S>(http, Clock::real(1.0));
    let (tasks, addresses) = (kit.tasks.clone(), kit.addresses.clone());
    S::start(config, kit).await?;
    let addresses = addresses.get().context("the service does not listen")?;
    Ok(Running { address: addresses.api, health: addresses.health, tasks })
}

impl Running {
    pub async fn stop(self) -> anyhow::Result<()> {
        self.tasks.stop();
        self.tasks.stopped().await
    }
}
