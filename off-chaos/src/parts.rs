//! The system under test: Postgres, NATS and four services as separate processes, with a proxy on every link between
//! them.

use crate::{
    fault::Link,
    proxy::{LinkState, Proxy},
};
use anyhow::Context;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use off_cli::{
    home::Home,
    migrate::{self, ForeignTables},
    serve::Name,
};
use off_kit::{Addresses, Bus, bus, db};
use off_servers::{Nats, Postgres, SmallDisk, find_nats_server, find_postgres};
use sqlx::PgPool;
use std::{
    collections::BTreeMap,
    fs::File,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::{Mutex as StdMutex, PoisonError},
    time::Duration,
};
use tokio::{
    process::{Child, Command},
    sync::Mutex,
    time::Instant,
};
use url::Url;

/// The broker's storage limit, small enough to be filled quickly.
const BROKER_SETTING: &str = "max_file_store: 768MB";

/// The part of it that the streams may use, in MiB.
pub(crate) const STREAM_STORAGE_MIB: u32 = 640;

/// Size of the small disk for Postgres, in MiB, and the settings that limit its WAL accordingly.
const POSTGRES_DISK_MIB: u32 = 1024;
const POSTGRES_SETTINGS: [&str; 2] = ["max_wal_size=192MB", "min_wal_size=64MB"];

/// Orders that fit on such a disk, at about 600 bytes each including deliveries, events and indexes. They may use half
/// of the disk.
const MAX_ORDERS_ON_SMALL_DISK: f64 = 500_000.0;

/// How long a server may take to restart after a kill.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// All parts of the system. A mutex per part keeps concurrent faults from acting on it at the same time.
#[derive(Debug)]
pub(crate) struct Parts {
    postgres: Mutex<Postgres>,
    /// `None` if this user may not mount one.
    postgres_disk: StdMutex<Option<SmallDisk>>,
    nats: Mutex<Nats>,
    services: BTreeMap<Name, Mutex<Process>>,
    proxies: BTreeMap<Link, Proxy>,
    /// The address of each service, not proxied.
    addresses: BTreeMap<Name, Addresses>,
    /// Connected directly, not through a proxy.
    pub(crate) db: PgPool,
    pub(crate) bus: Bus,
}

/// A service that runs as a separate process.
#[derive(Debug)]
struct Process {
    name: Name,
    settings: Vec<(&'static str, String)>,
    log: PathBuf,
    /// `None` while it is stopped on purpose.
    child: Option<Child>,
    /// Exit statuses of unexpected exits.
    exits: Vec<ExitStatus>,
}

/// Settings of a run that the system depends on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RunSettings {
    /// Simulated seconds per real second.
    pub(crate) speed: f64,
    pub(crate) seed: u64,
    /// Number of orders that the run will place.
    pub(crate) orders: f64,
}

impl Parts {
    /// Starts all parts in `folder`, which is empty.
    pub(crate) async fn start(home: &Home, folder: &Path, run: RunSettings) -> anyhow::Result<Self> {
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

        let mut addresses = BTreeMap::new();
        // Reserves two ports per service. The listeners stay open until the proxies have their ports: a released port may
        // be assigned again at once.
        let mut listeners = Vec::new();
        for name in Name::ALL {
            let (api, health) = (TcpListener::bind(("127.0.0.1", 0))?, TcpListener::bind(("127.0.0.1", 0))?);
            addresses.insert(name, Addresses { api: api.local_addr()?, health: health.local_addr()? });
            listeners.extend([api, health]);
        }
        let mut proxies = BTreeMap::new();
        for link in Link::ALL {
            let to = match link {
                Link::ToPostgres(_) => address_of(&postgres.url)?,
                Link::ToNats(_) => address_of(&nats.url)?,
                Link::FromClients(name) | Link::FromGenerator(name) => addresses[&name].api,
            };
            proxies.insert(link, Proxy::start(to).await?);
        }
        drop(listeners);
        let logs = folder.join("logs");
        std::fs::create_dir_all(&logs).with_context(|| format!("cannot create {}", logs.display()))?;
        let mut services = BTreeMap::new();
        for name in Name::ALL {
            let settings = settings(name, run, &addresses, &proxies, &postgres.url, &nats.url)?;
            let log = logs.join(format!("{name}.log"));
            let mut process = Process { name, settings, log, child: None, exits: Vec::new() };
            process.start()?;
            services.insert(name, Mutex::new(process));
        }
        let (postgres, nats) = (Mutex::new(postgres), Mutex::new(nats));
        let postgres_disk = StdMutex::new(postgres_disk);
        Ok(Self { postgres, postgres_disk, nats, services, proxies, addresses, db: pool, bus })
    }

    /// URL of the proxy of `link`.
    pub(crate) fn url(&self, link: Link) -> String {
        format!("http://{}", self.proxies[&link].address)
    }

    /// Health address of a service, not proxied.
    pub(crate) fn health_address(&self, name: Name) -> SocketAddr {
        self.addresses[&name].health
    }

    /// Sets the state of a link.
    pub(crate) fn set_link(&self, link: Link, state: LinkState) {
        self.proxies[&link].set(state);
    }

    /// Sends SIGKILL to a service and does not restart it.
    pub(crate) async fn kill(&self, name: Name) -> anyhow::Result<()> {
        self.services[&name].lock().await.kill().await
    }

    /// Starts a service if it does not run.
    pub(crate) async fn start_service(&self, name: Name) -> anyhow::Result<()> {
        self.services[&name].lock().await.start()
    }

    /// Sends a signal to a service: SIGSTOP freezes it, SIGCONT resumes it.
    pub(crate) async fn signal(&self, name: Name, signal: Signal) -> anyhow::Result<()> {
        self.services[&name].lock().await.signal(signal)
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

    /// Opens all links, and resumes or starts all services.
    pub(crate) async fn heal(&self) -> anyhow::Result<()> {
        for proxy in self.proxies.values() {
            proxy.set(LinkState::Open);
        }
        for process in self.services.values() {
            let mut process = process.lock().await;
            process.signal(Signal::SIGCONT)?;
            process.start()?;
        }
        Ok(())
    }

    /// Restarts services that exited unexpectedly; returns a description of each exit.
    pub(crate) async fn restart_exited(&self) -> anyhow::Result<Vec<String>> {
        let mut exited = Vec::new();
        for process in self.services.values() {
            let mut process = process.lock().await;
            if process.child.is_some() {
                process.start()?;
            }
            let (name, log) = (process.name, process.log.display().to_string());
            let exits = process.exits.drain(..);
            exited.extend(exits.map(|status| format!("{name} exited unexpectedly ({status}); see {log}")));
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

/// Environment variables of a service: all its connections go through proxies.
fn settings(
    name: Name,
    run: RunSettings,
    addresses: &BTreeMap<Name, Addresses>,
    proxies: &BTreeMap<Link, Proxy>,
    database_url: &str,
    nats_url: &str,
) -> anyhow::Result<Vec<(&'static str, String)>> {
    let http = |link| format!("http://{}", proxies[&link].address);
    let mut settings = vec![
        ("HTTP_SERVICE_PORT", addresses[&name].api.port().to_string()),
        ("HEALTH_PORT", addresses[&name].health.port().to_string()),
        ("NATS_URL", via_proxy(nats_url, &proxies[&Link::ToNats(name)])?),
        ("OFF_SPEED", run.speed.to_string()),
        ("OFF_LOG_FORMAT", "json".to_owned()),
    ];
    match name {
        Name::Users | Name::Orders => {
            settings.push(("DATABASE_URL", via_proxy(database_url, &proxies[&Link::ToPostgres(name)])?));
        }
        Name::Notifications => settings.push(("OFF_SEED", run.seed.to_string())),
        // The generator only plays the devices, which order low products. The clients run here, with a journal.
        Name::Generator => settings.extend([
            ("USERS_URL", http(Link::FromGenerator(Name::Users))),
            ("ORDERS_URL", http(Link::FromGenerator(Name::Orders))),
            ("GENERATOR_RATE", "0".to_owned()),
            ("GENERATOR_HOUSEHOLDS", "0".to_owned()),
        ]),
    }
    Ok(settings)
}

fn address_of(url: &str) -> anyhow::Result<SocketAddr> {
    let url = Url::parse(url)?;
    let host = url.host_str().context("a URL without a host")?;
    Ok(format!("{host}:{}", url.port().context("a URL without a port")?).parse()?)
}

/// `url` with the port of a proxy.
fn via_proxy(url: &str, proxy: &Proxy) -> anyhow::Result<String> {
    let mut url = Url::parse(url)?;
    url.set_port(Some(proxy.address.port())).map_err(|()| anyhow::anyhow!("a URL that cannot have a port"))?;
    Ok(url.into())
}

impl Process {
    /// Starts the process if it does not run.
    fn start(&mut self) -> anyhow::Result<()> {
        if self.is_running()? {
            return Ok(());
        }
        let log = File::options().create(true).append(true).open(&self.log);
        let log = log.with_context(|| format!("cannot open the log {}", self.log.display()))?;
        let child = Command::new(std::env::current_exe()?)
            .arg("serve")
            .arg(self.name.as_str())
            .env_remove("DATABASE_URL")
            .envs(self.settings.iter().map(|(name, value)| (*name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            // A process group of its own, so that Ctrl-C reaches only this process.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {}", self.name))?;
        self.child = Some(child);
        Ok(())
    }

    async fn kill(&mut self) -> anyhow::Result<()> {
        self.is_running()?;
        if let Some(mut child) = self.child.take() {
            child.kill().await.with_context(|| format!("cannot kill {}", self.name))?;
        }
        Ok(())
    }

    fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let Some(id) = self.child.as_ref().and_then(Child::id) else { return Ok(()) };
        kill(Pid::from_raw(i32::try_from(id)?), signal)
            .with_context(|| format!("cannot send {signal} to {}", self.name))
    }

    /// Whether the process runs; records its exit status if it exited unexpectedly.
    fn is_running(&mut self) -> anyhow::Result<bool> {
        let Some(child) = &mut self.child else { return Ok(false) };
        let Some(status) = child.try_wait()? else { return Ok(true) };
        self.exits.push(status);
        self.child = None;
        Ok(false)
    }
}
