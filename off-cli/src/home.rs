//! The folder `.off/`: its lock, the description of the running system, and its private servers.

use anyhow::{Context, bail};
use chrono::{DateTime, Utc};
use off_kit::{Bus, bus, db, http, secret};
use off_servers::{Nats, Postgres, find_nats_server, find_postgres, keep_running};
use serde::{Deserialize, Serialize};
use sqlx::PgPool;
use std::{
    env,
    fs::{self, File, TryLockError},
    io::{ErrorKind, Write},
    net::SocketAddr,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

/// Timeout for the connection to a running broker.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// The file whose modification time is when the system last ran.
const HEARTBEAT: &str = "heartbeat";

/// A folder that holds a system.
#[derive(Debug, Clone)]
pub struct Home {
    folder: PathBuf,
    tools: PathBuf,
}

/// The addresses of a running system, written by `off up` for the other commands.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Running {
    pub(crate) pid: u32,
    pub(crate) database_url: String,
    pub(crate) nats_url: String,
    pub(crate) services: Vec<RunningService>,
}

/// A service of a running system.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct RunningService {
    pub(crate) name: String,
    /// The base URL of its API.
    pub(crate) url: String,
    /// The base URL of its health port.
    pub(crate) health_url: String,
}

impl RunningService {
    /// Succeeds if the service is ready; the error has the reason why it is not.
    pub(crate) async fn check_readiness(&self) -> anyhow::Result<()> {
        let address = self.health_url.strip_prefix("http://").and_then(|address| address.parse::<SocketAddr>().ok());
        let address = address.with_context(|| format!("{} is not an address", self.health_url))?;
        http::ask_whether_ready(address).await.map(drop)
    }
}

/// The exclusive right to start servers in the folder; released when dropped, or when the process dies.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// Postgres and NATS, private or external; `postgres` and `nats` are `None` for an external one.
#[derive(Debug)]
pub(crate) struct Servers {
    pub(crate) database_url: String,
    pub(crate) nats_url: String,
    pub(crate) postgres: Option<Postgres>,
    pub(crate) nats: Option<Nats>,
}

/// A command's connections to the database and the broker of a system.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) db: PgPool,
    pub(crate) bus: Bus,
    /// Servers that were started for this command only.
    servers: Option<Servers>,
    _lock: Option<Lock>,
}

impl Home {
    /// The home in `folder`; nothing is created yet. Fails if the working directory is needed and unknown.
    pub fn new(folder: PathBuf) -> anyhow::Result<Self> {
        // The servers run in other working directories, so they need the absolute path.
        let folder = std::path::absolute(folder).context("OFF_HOME is not a path")?;
        let tools = folder.join("bin");
        Ok(Self { folder, tools })
    }

    /// A subfolder for another system, which uses the same tools.
    #[must_use]
    pub fn beneath(&self, name: &str) -> Self {
        Self { folder: self.folder.join(name), tools: self.tools.clone() }
    }

    /// The absolute path.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where `./run` installs programs that the machine lacks.
    pub fn tools(&self) -> &Path {
        &self.tools
    }

    /// The log of the program that holds the lock.
    pub fn log_file(&self) -> PathBuf {
        self.folder.join("off.log")
    }

    /// The folder of the database's files if it is outside of this folder: under root, Postgres runs as another user,
    /// who may have no access here.
    pub(crate) fn relocated_database(&self) -> Option<PathBuf> {
        fs::read_link(self.folder.join("postgres")).ok()
    }

    /// Renames the log of the last run, so that the log does not grow across runs.
    pub(crate) fn rotate_log(&self) -> anyhow::Result<()> {
        match fs::rename(self.log_file(), self.folder.join("off.log.old")) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error).context("cannot rename the last log"),
            _ => Ok(()),
        }
    }

    /// Locks the folder for this process; fails if another process holds the lock.
    pub fn lock(&self) -> anyhow::Result<Lock> {
        let cannot_write = || format!("cannot write in {}", self.folder.display());
        fs::create_dir_all(&self.folder).with_context(cannot_write)?;
        let file =
            File::options().create(true).append(true).open(self.folder.join("lock")).with_context(cannot_write)?;
        match file.try_lock() {
            Ok(()) => Ok(Lock { _file: file }),
            Err(TryLockError::WouldBlock) => {
                let process = self.running().map_or_else(String::new, |running| format!(" (process {})", running.pid));
                bail!(
                    "off is already up in {}{process}: watch it with `off watch`, stop it with `off down`, or \
                     start another one with --home FOLDER",
                    self.folder.display()
                )
            }
            Err(TryLockError::Error(error)) => Err(error).with_context(cannot_write),
        }
    }

    /// Whether a system or another command holds the lock of the folder.
    pub(crate) fn is_locked(&self) -> bool {
        self.folder.exists() && self.lock().is_err()
    }

    /// The addresses of the running system; `None` if none runs.
    pub(crate) fn running(&self) -> Option<Running> {
        let text = fs::read_to_string(self.folder.join("running.json")).ok()?;
        serde_json::from_str(&text).ok()
    }

    pub(crate) fn write_running(&self, running: &Running) -> anyhow::Result<()> {
        let path = self.folder.join("running.json");
        // The URLs contain passwords.
        let file = File::options().create(true).write(true).truncate(true).mode(0o600).open(&path);
        file.and_then(|mut file| file.write_all(serde_json::to_string_pretty(running)?.as_bytes()))
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// Whether a heartbeat was ever recorded.
    pub(crate) fn has_heartbeat(&self) -> bool {
        self.folder.join(HEARTBEAT).exists()
    }

    /// Records that the system runs and keeps its deadlines.
    pub(crate) fn write_heartbeat(&self) {
        // Errors are ignored: without the file, an audit of the stopped system uses the current time.
        let _ = fs::write(self.folder.join(HEARTBEAT), "");
    }

    /// When the system last ran, by this machine's clock; `None` if unknown.
    pub(crate) fn last_ran_at(&self) -> Option<DateTime<Utc>> {
        let modified = fs::metadata(self.folder.join(HEARTBEAT)).and_then(|file| file.modified()).ok()?;
        Some(modified.into())
    }

    pub(crate) fn remove_running(&self) {
        // The file may not exist.
        let _ = fs::remove_file(self.folder.join("running.json"));
    }

    /// Connects to the external servers if `DATABASE_URL` and `NATS_URL` are set, else to the system that runs here,
    /// else to its two servers, which are started for this command.
    pub(crate) async fn session(&self) -> anyhow::Result<Session> {
        if let (Some(database_url), Some(nats_url)) = external_urls()? {
            return Session::new(&database_url, &nats_url, None, None).await;
        }
        match self.lock() {
            Ok(lock) => {
                if !self.folder.join("postgres").exists() && !self.folder.join("nats").exists() {
                    bail!("there is no data in {}: start the system with `off up`", self.folder.display());
                }
                self.remove_running();
                let servers = Servers::start(self).await?;
                let (database_url, nats_url) = (servers.database_url.clone(), servers.nats_url.clone());
                Session::new(&database_url, &nats_url, Some(servers), Some(lock)).await
            }
            Err(locked) => match self.running() {
                Some(running) => Session::new(&running.database_url, &running.nats_url, None, None).await,
                None => Err(locked),
            },
        }
    }
}

/// `DATABASE_URL` and `NATS_URL` if they are set, each with the password from its password file if there is one.
fn external_urls() -> anyhow::Result<(Option<String>, Option<String>)> {
    let read = |name, password_file| match env::var_os(name) {
        None => Ok(None),
        Some(value) => {
            let url = value.into_string().map_err(|_| anyhow::anyhow!("{name} is not text"))?;
            let file = env::var_os(password_file).map(PathBuf::from);
            secret::fill_in(&url, file.as_deref()).context(name).map(Some)
        }
    };
    Ok((read("DATABASE_URL", "DATABASE_PASSWORD_FILE")?, read("NATS_URL", "NATS_PASSWORD_FILE")?))
}

impl Servers {
    /// A line for people: which servers will be started, and which external ones are used.
    pub(crate) fn announcement() -> anyhow::Result<String> {
        let describe = |server: &str, setting: &str, url: Option<String>| match url {
            None => format!("starting {server}"),
            Some(url) => format!("using the {server} that {setting} names, {}", db::redact(&url)),
        };
        let (database_url, nats_url) = external_urls()?;
        if database_url.is_none() && nats_url.is_none() {
            return Ok("starting PostgreSQL and NATS".to_owned());
        }
        let postgres = describe("PostgreSQL", "DATABASE_URL", database_url);
        let nats = describe("NATS", "NATS_URL", nats_url);
        Ok(format!("{postgres}, {nats}"))
    }

    /// Starts the private servers: those for which no external URL is set.
    pub(crate) async fn start(home: &Home) -> anyhow::Result<Self> {
        let (database_url, nats_url) = external_urls()?;
        let (postgres, database_url) = if let Some(url) = database_url {
            (None, url)
        } else {
            let (programs, _) = find_postgres().await?;
            let postgres = Postgres::start(&programs, &home.folder.join("postgres"), &[]).await?;
            let url = postgres.url.clone();
            (Some(postgres), url)
        };
        let (nats, nats_url) = if let Some(url) = nats_url {
            (None, url)
        } else {
            let (program, _) = find_nats_server(home.tools()).await?;
            let nats = Nats::start(&program, &home.folder.join("nats"), &[]).await?;
            let url = nats.url.clone();
            (Some(nats), url)
        };
        Ok(Self { database_url, nats_url, postgres, nats })
    }

    /// Restarts private servers that exit, and calls `on_restart` each time. Returns an error if one exits too often.
    pub(crate) async fn keep_running(&mut self, on_restart: impl Fn(&str)) -> anyhow::Result<()> {
        let postgres = async {
            match &mut self.postgres {
                Some(postgres) => keep_running(postgres, &on_restart).await,
                None => std::future::pending().await,
            }
        };
        let nats = async {
            match &mut self.nats {
                Some(nats) => keep_running(nats, &on_restart).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            ended = postgres => ended,
            ended = nats => ended,
        }
    }

    pub(crate) async fn stop(&mut self) -> anyhow::Result<()> {
        if let Some(nats) = &mut self.nats {
            nats.stop().await?;
        }
        if let Some(postgres) = &mut self.postgres {
            postgres.stop().await?;
        }
        Ok(())
    }
}

impl Session {
    /// Whether the system is not running, so that its servers were started for this command.
    pub(crate) fn is_of_stopped_system(&self) -> bool {
        self.servers.is_some()
    }

    async fn new(
        database_url: &str,
        nats_url: &str,
        servers: Option<Servers>,
        lock: Option<Lock>,
    ) -> anyhow::Result<Self> {
        let config = db::Config::at(database_url, 4);
        let db = db::lazy_pool(&config, "off")?;
        db.acquire().await.with_context(|| format!("Postgres does not answer at {}", db::redact(database_url)))?;
        db::refuse_shared_sessions(&db).await?;
        let bus = Bus::connect(&bus::Config::at(nats_url), "cli").await?;
        bus.connected(ANSWER_TIMEOUT).await?;
        Ok(Self { db, bus, servers, _lock: lock })
    }

    /// Closes the connections, and stops the servers that were started for this command.
    pub(crate) async fn end(self) -> anyhow::Result<()> {
        self.bus.close().await;
        self.db.close().await;
        match self.servers {
            Some(mut servers) => servers.stop().await,
            None => Ok(()),
        }
    }
}
