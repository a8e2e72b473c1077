//! The system under test: two servers, four services as processes of their own, and a way that can be cut between any
//! two of them.

use super::{
    proxy::{Proxy, Way},
    schedule::Link,
};
use crate::{home::Home, serve::Name};
use anyhow::Context;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use off_kit::{
    Addresses, Bus, bus, db,
    servers::{Nats, Postgres, SmallDisk, find_nats_server, find_postgres},
};
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

/// What the broker may store: little enough to be filled in a moment.
const BROKER_DISK: &str = "max_file_store: 768MB";

/// What of it the streams may take, in MiB.
pub(super) const BROKER_ROOM: u32 = 640;

/// The disk of Postgres, in MiB, where one may be made, and how it keeps to it.
const POSTGRES_DISK: u32 = 1024;
const POSTGRES_SETTINGS: [&str; 2] = ["max_wal_size=192MB", "min_wal_size=64MB"];

/// The most orders that such a disk has room for, at about 600 bytes each with all that belongs to them; half of it is for the rest.
const MOST_ON_SMALL_DISK: f64 = 500_000.0;

/// How long a server may take to start again after a kill.
const START_WITHIN: Duration = Duration::from_secs(30);

/// All parts. What is done to them is done by one task at a time for each.
#[derive(Debug)]
pub(super) struct Parts {
    postgres: Mutex<Postgres>,
    /// `None` where this user may not make one.
    postgres_disk: StdMutex<Option<SmallDisk>>,
    nats: Mutex<Nats>,
    services: BTreeMap<Name, Mutex<Process>>,
    proxies: BTreeMap<Link, Proxy>,
    /// Where each service answers, without a proxy between.
    addresses: BTreeMap<Name, Addresses>,
    /// Past all proxies.
    pub(super) db: PgPool,
    pub(super) bus: Bus,
}

/// A service as a process.
#[derive(Debug)]
struct Process {
    name: Name,
    settings: Vec<(&'static str, String)>,
    log: PathBuf,
    /// `None` while it is meant to be dead.
    child: Option<Child>,
    /// How it ended by itself, each time.
    ended: Vec<ExitStatus>,
}

/// What the simulated world of a run is like.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    pub(super) speed: f64,
    pub(super) seed: u64,
    /// How many orders the run will place.
    pub(super) orders: f64,
}

impl Parts {
    /// Starts everything in `folder`, with nothing in it yet.
    pub(super) async fn start(home: &Home, folder: &Path, pace: Pace) -> anyhow::Result<Self> {
        let (programs, _) = find_postgres().await?;
        let postgres_folder = folder.join("postgres");
        let place = Postgres::make_place(&postgres_folder)?;
        let postgres_disk =
            if pace.orders <= MOST_ON_SMALL_DISK { SmallDisk::mount(&place, POSTGRES_DISK) } else { None };
        let postgres = Postgres::start(&programs, &postgres_folder, &POSTGRES_SETTINGS).await?;
        let (program, _) = find_nats_server(home.tools()).await?;
        let nats = Nats::start(&program, &folder.join("nats"), &[BROKER_DISK]).await?;
        let config = db::Config::at(&postgres.url, 4);
        let pool = db::lazy_pool(&config, "off-chaos")?;
        let bus = Bus::connect(&bus::Config::at(&nats.url), "chaos").await?;
        let keeping = bus::Keeping { room: BROKER_ROOM, ..bus::Keeping::default() };
        crate::migrate::all(&pool, &bus, keeping, false).await?;

        let mut addresses = BTreeMap::new();
        // Free now; each service takes its own a moment later, and again whenever it is started anew. They are held until all others
        // have theirs: a port that is given back is soon given to someone else.
        let mut held = Vec::new();
        for name in Name::ALL {
            let (api, health) = (TcpListener::bind(("127.0.0.1", 0))?, TcpListener::bind(("127.0.0.1", 0))?);
            addresses.insert(name, Addresses { api: api.local_addr()?, health: health.local_addr()? });
            held.extend([api, health]);
        }
        let mut proxies = BTreeMap::new();
        for link in Link::ALL {
            let to = match link {
                Link::ToPostgres(_) => address_of(&postgres.url)?,
                Link::ToNats(_) => address_of(&nats.url)?,
                Link::FromPeople(name) | Link::FromGenerator(name) => addresses[&name].api,
            };
            proxies.insert(link, Proxy::start(to).await?);
        }
        drop(held);
        let logs = folder.join("logs");
        std::fs::create_dir_all(&logs).with_context(|| format!("cannot make {}", logs.display()))?;
        let mut services = BTreeMap::new();
        for name in Name::ALL {
            let settings = settings(name, pace, &addresses, &proxies, &postgres.url, &nats.url)?;
            let log = logs.join(format!("{name}.log"));
            let mut process = Process { name, settings, log, child: None, ended: Vec::new() };
            process.start()?;
            services.insert(name, Mutex::new(process));
        }
        let (postgres, nats) = (Mutex::new(postgres), Mutex::new(nats));
        let postgres_disk = StdMutex::new(postgres_disk);
        Ok(Self { postgres, postgres_disk, nats, services, proxies, addresses, db: pool, bus })
    }

    /// Where a service answers at the end of `link`.
    pub(super) fn url(&self, link: Link) -> String {
        format!("http://{}", self.proxies[&link].address)
    }

    /// Where a service tells of its health, whatever is done to its ways.
    pub(super) fn health_address(&self, name: Name) -> SocketAddr {
        self.addresses[&name].health
    }

    pub(super) fn set(&self, link: Link, way: Way) {
        self.proxies[&link].set(way);
    }

    pub(super) async fn kill(&self, name: Name) -> anyhow::Result<()> {
        self.services[&name].lock().await.kill().await
    }

    pub(super) async fn start_service(&self, name: Name) -> anyhow::Result<()> {
        self.services[&name].lock().await.start()
    }

    /// Stops a service from running, without its knowing, or lets it run on.
    pub(super) async fn signal(&self, name: Name, signal: Signal) -> anyhow::Result<()> {
        self.services[&name].lock().await.signal(signal)
    }

    /// Kills Postgres, and starts it again after `down`.
    pub(super) async fn kill_postgres(&self, down: Duration) -> anyhow::Result<()> {
        let mut postgres = self.postgres.lock().await;
        postgres.kill().await?;
        tokio::time::sleep(down).await;
        Self::start_postgres(&mut postgres).await
    }

    /// Takes all room on the disk of Postgres for a while. It may end itself for want of it, and is started again then.
    pub(super) async fn fill_postgres(&self, full: Duration) -> anyhow::Result<()> {
        let mut postgres = self.postgres.lock().await;
        let disk = || self.postgres_disk.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(filled) = disk().as_ref().map(SmallDisk::fill) else { return Ok(()) };
        filled?;
        tokio::time::sleep(full).await;
        disk().as_ref().map_or(Ok(()), SmallDisk::free)?;
        // One that is recovering may yet end.
        let ended = tokio::time::timeout(Duration::from_secs(1), postgres.watch()).await;
        if ended.is_ok() { Self::start_postgres(&mut postgres).await } else { Ok(()) }
    }

    /// Whether the disk of Postgres can be filled.
    pub(super) fn can_fill_postgres(&self) -> bool {
        self.postgres_disk.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    async fn start_postgres(postgres: &mut Postgres) -> anyhow::Result<()> {
        let deadline = Instant::now() + START_WITHIN;
        // Its children outlive it for a moment, and it does not start beside them.
        while let Err(error) = postgres.start_again().await {
            anyhow::ensure!(Instant::now() < deadline, error.context("Postgres does not start again"));
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        Ok(())
    }

    /// Kills NATS, and starts it again after `down`.
    pub(super) async fn kill_nats(&self, down: Duration) -> anyhow::Result<()> {
        let mut nats = self.nats.lock().await;
        nats.kill().await?;
        tokio::time::sleep(down).await;
        nats.start_again().await.context("NATS does not start again")
    }

    /// Kills NATS, keeps a copy of its store aside, and starts it again.
    pub(super) async fn copy_nats_store(&self, name: &str) -> anyhow::Result<()> {
        self.nats.lock().await.with_store(&format!("cp -a store {name}")).await
    }

    /// Kills NATS, and starts it again with the copy that was kept aside under this name.
    pub(super) async fn roll_nats_store_back(&self, name: &str) -> anyhow::Result<()> {
        self.nats.lock().await.with_store(&format!("rm -r store && mv {name} store")).await
    }

    /// Lets everything run that is meant to, and opens all ways.
    pub(super) async fn heal(&self) -> anyhow::Result<()> {
        for proxy in self.proxies.values() {
            proxy.set(Way::Open);
        }
        for process in self.services.values() {
            let mut process = process.lock().await;
            process.signal(Signal::SIGCONT)?;
            process.start()?;
        }
        Ok(())
    }

    /// Services that have ended without being killed; each is started again.
    pub(super) async fn find_dead(&self) -> anyhow::Result<Vec<String>> {
        let mut dead = Vec::new();
        for process in self.services.values() {
            let mut process = process.lock().await;
            if process.child.is_some() {
                process.start()?;
            }
            let (name, log) = (process.name, process.log.display().to_string());
            dead.extend(process.ended.drain(..).map(|status| format!("{name} ended by itself ({status}); see {log}")));
        }
        Ok(dead)
    }

    /// Stops all in order; keeps what is on the disk of Postgres where somebody has to look at it.
    pub(super) async fn stop(&self, is_kept: bool) -> anyhow::Result<()> {
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

/// What a service is told: all its ways lead through proxies.
fn settings(
    name: Name,
    pace: Pace,
    addresses: &BTreeMap<Name, Addresses>,
    proxies: &BTreeMap<Link, Proxy>,
    database_url: &str,
    nats_url: &str,
) -> anyhow::Result<Vec<(&'static str, String)>> {
    let http = |link| format!("http://{}", proxies[&link].address);
    let mut settings = vec![
        ("HTTP_SERVICE_PORT", addresses[&name].api.port().to_string()),
        ("HEALTH_PORT", addresses[&name].health.port().to_string()),
        ("NATS_URL", through(nats_url, &proxies[&Link::ToNats(name)])?),
        ("OFF_SPEED", pace.speed.to_string()),
        ("OFF_LOG_FORMAT", "json".to_owned()),
    ];
    match name {
        Name::Users | Name::Orders => {
            settings.push(("DATABASE_URL", through(database_url, &proxies[&Link::ToPostgres(name)])?));
        }
        Name::Notifications => settings.push(("OFF_SEED", pace.seed.to_string())),
        // Only its devices take part: they order what is low. Everyone else is played here, with a journal.
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

/// `url`, by way of a proxy.
fn through(url: &str, proxy: &Proxy) -> anyhow::Result<String> {
    let mut url = Url::parse(url)?;
    url.set_port(Some(proxy.address.port())).map_err(|()| anyhow::anyhow!("a URL that takes no port"))?;
    Ok(url.into())
}

impl Process {
    /// Starts it, unless it runs.
    fn start(&mut self) -> anyhow::Result<()> {
        if self.is_running()? {
            return Ok(());
        }
        let log = File::options().create(true).append(true).open(&self.log);
        let log = log.with_context(|| format!("cannot write {}", self.log.display()))?;
        let child = Command::new(std::env::current_exe()?)
            .arg("serve")
            .arg(self.name.as_str())
            .env_remove("DATABASE_URL")
            .envs(self.settings.iter().map(|(name, value)| (*name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            // Ctrl-C is for whoever started them.
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

    /// Whether it runs; notes how it ended where it did so by itself.
    fn is_running(&mut self) -> anyhow::Result<bool> {
        let Some(child) = &mut self.child else { return Ok(false) };
        let Some(status) = child.try_wait()? else { return Ok(true) };
        self.ended.push(status);
        self.child = None;
        Ok(false)
    }
}
