//! The system under test: Postgres, NATS and eight services as separate processes, with a proxy on every link between
//! them, and a mail server.

use crate::{
    fault::Link,
    journal::Journal,
    network::{Network, RunSettings, Servers},
    proxy::LinkState,
    smtp::SmtpServer,
};
use anyhow::Context;
use off_cli::{
    home::Home,
    migrate::{self, ForeignTables},
    serve::ServiceName,
};
use off_kit::{Bus, bus, db};
use off_servers::{Nats, Postgres, SmallDisk, find_nats_server, find_postgres};
use off_testkit::{Log, Process};
use sqlx::PgPool;
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex as StdMutex, PoisonError},
    time::Duration,
};
use tokio::{sync::Mutex, time::Instant};

/// The broker's storage limit, small enough to be filled quickly.
const BROKER_SETTING: &str = "max_file_store: 768MB";

/// The part of it that the streams may use, in MiB.
pub(crate) const STREAM_STORAGE_MIB: u32 = 640;

/// Size of the small disk for Postgres, in MiB, and the settings that limit its WAL accordingly.
const POSTGRES_DISK_MIB: u32 = 1024;
const POSTGRES_SETTINGS: [&str; 2] = ["max_wal_size=192MB", "min_wal_size=64MB"];

/// Orders that fit on such a disk, at about 600 bytes each including deliveries, events and indexes. They may use half
/// of the disk.
const MAX_ORDERS_ON_SMALL_DISK: u64 = 500_000;

/// How long a server may take to restart after a kill.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// All parts of the system. A mutex per part keeps concurrent faults from acting on it at the same time.
#[derive(Debug)]
pub(crate) struct Parts {
    postgres: Mutex<Postgres>,
    /// `None` if this user may not mount one.
    postgres_disk: StdMutex<Option<SmallDisk>>,
    nats: Mutex<Nats>,
    services: BTreeMap<ServiceName, Mutex<Process>>,
    /// The folder of their logs.
    logs: PathBuf,
    network: Network,
    pub(crate) smtp: SmtpServer,
    /// Connected directly, not through a proxy.
    pub(crate) db: PgPool,
    pub(crate) bus: Bus,
}

impl Parts {
    /// Starts all parts in `folder`, which is empty. The mail server records in `journal`.
    pub(crate) async fn start(
        home: &Home,
        folder: &Path,
        run: RunSettings,
        journal: Arc<Journal>,
    ) -> anyhow::Result<Self> {
        let (programs, _) = find_postgres().await?;
        let postgres_folder = folder.join("postgres");
        let data_folder = Postgres::make_place(&postgres_folder)?;
        let fits_small_disk = run.orders <= MAX_ORDERS_ON_SMALL_DISK;
        let postgres_disk = if fits_small_disk { SmallDisk::mount(&data_folder, POSTGRES_DISK_MIB) } else { None };
        let postgres = Postgres::start(&programs, &postgres_folder, &POSTGRES_SETTINGS).await?;
        let (program, _) = find_nats_server(home.tools()).await?;
        let nats = Nats::start(&program, &folder.join("nats"), &[BROKER_SETTING]).await?;
        let config = db::Config::at(&postgres.url, 4);
        let pool = db::lazy_pool(&config, "off-chaos")?;
        let bus = Bus::connect(&bus::Config::at(&nats.url), "chaos").await?;
        let storage = bus::StreamStorage { max_mib: STREAM_STORAGE_MIB, ..bus::StreamStorage::default() };
        migrate::all(&pool, &bus, storage, ForeignTables::Refuse).await?;
        home.make_secrets()?;
        migrate::set_clients(&pool, &home.secrets()).await?;

        let smtp = SmtpServer::start(journal, run.seed).await?;
        let servers = Servers { postgres: &postgres.url, nats: &nats.url, smtp: &smtp.url };
        let network = Network::start(servers).await?;
        let logs = folder.join("logs");
        std::fs::create_dir_all(&logs).with_context(|| format!("cannot create {}", logs.display()))?;
        let mut services = BTreeMap::new();
        for name in ServiceName::ALL {
            let settings = network.settings(name, run, servers, &home.secrets())?;
            let mut process = Process::new(std::env::current_exe()?)
                .arguments(["serve", name.as_str()])
                .without_environment(&["DATABASE_URL"])
                .environment(settings)
                .log(Log::Appended(log_file(&logs, name)))
                .in_own_group();
            process.start().with_context(|| format!("cannot start {name}"))?;
            services.insert(name, Mutex::new(process));
        }
        let (postgres, nats) = (Mutex::new(postgres), Mutex::new(nats));
        let postgres_disk = StdMutex::new(postgres_disk);
        Ok(Self { postgres, postgres_disk, nats, services, logs, network, smtp, db: pool, bus })
    }

    /// URL of the proxy of `link`.
    pub(crate) fn url(&self, link: Link) -> String {
        format!("http://{}", self.network.proxies[&link].address)
    }

    /// Health address of a service, not proxied.
    pub(crate) fn health_address(&self, name: ServiceName) -> SocketAddr {
        self.network.addresses[&name].health
    }

    /// Sets the state of a link.
    pub(crate) fn set_link(&self, link: Link, state: LinkState) {
        self.network.proxies[&link].set(state);
    }

    /// Sends SIGKILL to a service and does not restart it.
    pub(crate) async fn kill(&self, name: ServiceName) -> anyhow::Result<()> {
        self.services[&name].lock().await.kill().await
    }

    /// Starts a service if it does not run.
    pub(crate) async fn start_service(&self, name: ServiceName) -> anyhow::Result<()> {
        self.services[&name].lock().await.start()
    }

    /// Freezes a service with SIGSTOP.
    pub(crate) async fn freeze(&self, name: ServiceName) -> anyhow::Result<()> {
        self.services[&name].lock().await.freeze()
    }

    /// Resumes a service that is frozen.
    pub(crate) async fn resume(&self, name: ServiceName) -> anyhow::Result<()> {
        self.services[&name].lock().await.resume()
    }

    /// Kills Postgres and restarts it after `down`.
    pub(crate) async fn kill_postgres(&self, down: Duration) -> anyhow::Result<()> {
        let mut postgres = self.postgres.lock().await;
        postgres.kill().await?;
        tokio::time::sleep(down).await;
        Self::start_postgres(&mut postgres).await
    }

    /// Fills the disk of Postgres for the duration `full`. Restarts Postgres if it exits because the disk is full.
    pub(crate) async fn fill_postgres(&self, full: Duration) -> anyhow::Result<()> {
        let mut postgres = self.postgres.lock().await;
        let disk = || self.postgres_disk.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(filled) = disk().as_ref().map(SmallDisk::fill) else { return Ok(()) };
        filled?;
        tokio::time::sleep(full).await;
        disk().as_ref().map_or(Ok(()), SmallDisk::free)?;
        // A Postgres that is in crash recovery may still exit.
        let exit = tokio::time::timeout(Duration::from_secs(1), postgres.watch()).await;
        if exit.is_ok() { Self::start_postgres(&mut postgres).await } else { Ok(()) }
    }

    /// Whether the disk of Postgres can be filled.
    pub(crate) fn can_fill_postgres(&self) -> bool {
        self.postgres_disk.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    async fn start_postgres(postgres: &mut Postgres) -> anyhow::Result<()> {
        let deadline = Instant::now() + START_TIMEOUT;
        // Postgres does not start while child processes of its predecessor still run.
        while let Err(error) = postgres.start_again().await {
            anyhow::ensure!(Instant::now() < deadline, error.context("cannot restart Postgres"));
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        Ok(())
    }

    /// Kills NATS and restarts it after `down`.
    pub(crate) async fn kill_nats(&self, down: Duration) -> anyhow::Result<()> {
        let mut nats = self.nats.lock().await;
        nats.kill().await?;
        tokio::time::sleep(down).await;
        nats.start_again().await.context("cannot restart NATS")
    }

    /// Kills NATS, copies its store to `name` and restarts it.
    pub(crate) async fn copy_nats_store(&self, name: &str) -> anyhow::Result<()> {
        self.nats.lock().await.with_store(&format!("cp -a store {name}")).await
    }

    /// Kills NATS, replaces its store by the copy `name` and restarts it.
    pub(crate) async fn roll_nats_store_back(&self, name: &str) -> anyhow::Result<()> {
        self.nats.lock().await.with_store(&format!("rm -r store && mv {name} store")).await
    }

    /// Opens all links, and resumes or starts all services and the mail server.
    pub(crate) async fn heal(&self) -> anyhow::Result<()> {
        self.smtp.set_down(false);
        for proxy in self.network.proxies.values() {
            proxy.set(LinkState::Open);
        }
        for process in self.services.values() {
            let mut process = process.lock().await;
            process.resume()?;
            process.start()?;
        }
        Ok(())
    }

    /// Restarts services that exited unexpectedly; returns a description of each exit.
    pub(crate) async fn restart_exited(&self) -> anyhow::Result<Vec<String>> {
        let mut exited = Vec::new();
        for (&name, process) in &self.services {
            let exits = process.lock().await.restart_exited().with_context(|| format!("cannot restart {name}"))?;
            let log = log_file(&self.logs, name);
            let describe = |status| format!("{name} exited unexpectedly ({status}); see {}", log.display());
            exited.extend(exits.into_iter().map(describe));
        }
        Ok(exited)
    }

    /// Stops all parts in order. If `is_kept`, keeps the data on the small disk for examination after a failed run.
    pub(crate) async fn stop(&self, is_kept: bool) -> anyhow::Result<()> {
        for process in self.services.values() {
            process.lock().await.kill().await?;
        }
        self.bus.close().await;
        self.db.close().await;
        self.nats.lock().await.stop().await?;
        self.postgres.lock().await.stop().await?;
        let disk = self.postgres_disk.lock().unwrap_or_else(PoisonError::into_inner).take();
        match disk {
            Some(disk) if is_kept => disk.keep(),
            _ => Ok(()),
        }
    }
}

/// The log of a service.
fn log_file(logs: &Path, name: ServiceName) -> PathBuf {
    logs.join(format!("{name}.log"))
}
