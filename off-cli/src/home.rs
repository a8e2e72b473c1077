//! The folder `.off/`: who runs in it, where its servers are, and the servers themselves.

use anyhow::{Context, bail};
use chrono::{DateTime, Utc};
use off_kit::{
    Bus, bus, db, http, secret,
    servers::{Nats, Postgres, find_nats_server, find_postgres, keep_running},
};
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

/// How long a command waits for a database and a broker that should be there.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// The file whose time says when the system last ran.
const HEARTBEAT: &str = "heartbeat";

/// A folder that holds a system.
#[derive(Debug, Clone)]
pub(crate) struct Home {
    folder: PathBuf,
    tools: PathBuf,
}

/// Where a running system is; written by `off up` for the other commands.
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
    /// Its API.
    pub(crate) url: String,
    /// Its health port.
    pub(crate) health_url: String,
}

impl RunningService {
    /// An error with the reason when it is not.
    pub(crate) async fn ask_whether_ready(&self) -> anyhow::Result<()> {
        let address = self.health_url.strip_prefix("http://").and_then(|address| address.parse::<SocketAddr>().ok());
        let address = address.with_context(|| format!("{} is no address", self.health_url))?;
        http::ask_whether_ready(address).await.map(drop)
    }
}

/// The right to start servers in the folder; given back when dropped, or when the process dies.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

/// Postgres and NATS, ours or somebody's.
#[derive(Debug)]
pub(crate) struct Servers {
    pub(crate) database_url: String,
    pub(crate) nats_url: String,
    pub(crate) postgres: Option<Postgres>,
    pub(crate) nats: Option<Nats>,
}

/// A way to a system's database and bus for the length of a command.
#[derive(Debug)]
pub(crate) struct Visit {
    pub(crate) db: PgPool,
    pub(crate) bus: Bus,
    /// Servers that run for this command alone.
    servers: Option<Servers>,
    _lock: Option<Lock>,
}

impl Home {
    pub(crate) fn new(folder: PathBuf) -> anyhow::Result<Self> {
        // The servers' programs run elsewhere, so they need the whole path.
        let folder = std::path::absolute(folder).context("OFF_HOME is not a path")?;
        let tools = folder.join("bin");
        Ok(Self { folder, tools })
    }

    /// A folder beneath this one, for a system beside the one here.
    pub(crate) fn beneath(&self, name: &str) -> Self {
        Self { folder: self.folder.join(name), tools: self.tools.clone() }
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where `./run` puts programs that the machine does not have.
    pub(crate) fn tools(&self) -> &Path {
        &self.tools
    }

    pub(crate) fn log_file(&self) -> PathBuf {
        self.folder.join("off.log")
    }

    /// Where the database's files are, when that is not in the folder: as root Postgres runs as another user, who may not get to
    /// it.
    pub(crate) fn database_elsewhere(&self) -> Option<PathBuf> {
        fs::read_link(self.folder.join("postgres")).ok()
    }

    /// Puts the log of the last run aside, so that no log grows over all runs.
    pub(crate) fn keep_last_log(&self) -> anyhow::Result<()> {
        match fs::rename(self.log_file(), self.folder.join("off.log.old")) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error).context("cannot put the last log aside"),
            _ => Ok(()),
        }
    }

    /// Takes the folder for this process.
    pub(crate) fn lock(&self) -> anyhow::Result<Lock> {
        let making = || format!("cannot write in {}", self.folder.display());
        fs::create_dir_all(&self.folder).with_context(making)?;
        let file = File::options().create(true).append(true).open(self.folder.join("lock")).with_context(making)?;
        match file.try_lock() {
            Ok(()) => Ok(Lock { _file: file }),
            Err(TryLockError::WouldBlock) => {
                let who = self.running().map_or_else(String::new, |running| format!(" (process {})", running.pid));
                bail!(
                    "off is already up in {}{who}: watch it with `off watch`, stop it with Ctrl-C where it runs, or \
                     start another one with --home FOLDER",
                    self.folder.display()
                )
            }
            Err(TryLockError::Error(error)) => Err(error).with_context(making),
        }
    }

    /// Whether a system runs in the folder, or another command is at work there.
    pub(crate) fn is_taken(&self) -> bool {
        self.folder.exists() && self.lock().is_err()
    }

    /// Where the running system is; `None` when none runs.
    pub(crate) fn running(&self) -> Option<Running> {
        let text = fs::read_to_string(self.folder.join("running.json")).ok()?;
        serde_json::from_str(&text).ok()
    }

    pub(crate) fn write_running(&self, running: &Running) -> anyhow::Result<()> {
        let path = self.folder.join("running.json");
        // It holds passwords.
        let file = File::options().create(true).write(true).truncate(true).mode(0o600).open(&path);
        file.and_then(|mut file| file.write_all(serde_json::to_string_pretty(running)?.as_bytes()))
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// Notes that the system runs now.
    pub(crate) fn note_running(&self) {
        // Without it an audit of the stopped system compares deadlines with its own time.
        let _ = fs::write(self.folder.join(HEARTBEAT), "");
    }

    /// When the system last ran, by the clock of this machine; `None` where that is not known.
    pub(crate) fn last_ran_at(&self) -> Option<DateTime<Utc>> {
        let modified = fs::metadata(self.folder.join(HEARTBEAT)).and_then(|file| file.modified()).ok()?;
        Some(modified.into())
    }

    pub(crate) fn remove_running(&self) {
        // Not there is as good as gone.
        let _ = fs::remove_file(self.folder.join("running.json"));
    }

    /// A way to the system: yours by `DATABASE_URL` and `NATS_URL`, else the one that runs here, else its two servers,
    /// started for this command.
    pub(crate) async fn visit(&self) -> anyhow::Result<Visit> {
        if let (Some(database_url), Some(nats_url)) = yours()? {
            return Visit::new(&database_url, &nats_url, None, None).await;
        }
        match self.lock() {
            Ok(lock) => {
                if !self.folder.join("postgres").exists() && !self.folder.join("nats").exists() {
                    bail!("nothing has ever run in {}: start it with `off up`", self.folder.display());
                }
                self.remove_running();
                let servers = Servers::start(self).await?;
                let (database_url, nats_url) = (servers.database_url.clone(), servers.nats_url.clone());
                Visit::new(&database_url, &nats_url, Some(servers), Some(lock)).await
            }
            Err(taken) => match self.running() {
                Some(running) => Visit::new(&running.database_url, &running.nats_url, None, None).await,
                None => Err(taken),
            },
        }
    }
}

/// `DATABASE_URL` and `NATS_URL`, as far as they are set, each with the password of its file if it has one.
fn yours() -> anyhow::Result<(Option<String>, Option<String>)> {
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
    /// What is about to be started, and what is there by which setting, for people.
    pub(crate) fn announcement() -> anyhow::Result<String> {
        let told = |server: &str, setting: &str, url: Option<String>| match url {
            None => format!("starting {server}"),
            Some(url) => format!("using the {server} that {setting} names, {}", db::redact(&url)),
        };
        let (database_url, nats_url) = yours()?;
        if database_url.is_none() && nats_url.is_none() {
            return Ok("starting PostgreSQL and NATS".to_owned());
        }
        let (postgres, nats) = (told("PostgreSQL", "DATABASE_URL", database_url), told("NATS", "NATS_URL", nats_url));
        Ok(format!("{postgres}, {nats}"))
    }

    /// Starts those of the two servers that are not yours.
    pub(crate) async fn start(home: &Home) -> anyhow::Result<Self> {
        let (database_url, nats_url) = yours()?;
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

    /// Restarts those of our servers that end by themselves, and tells `on_restart`; ends with an error when one is given up.
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

impl Visit {
    /// Whether the system does not run: its servers were started for this command.
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
        bus.connected(ANSWER_WITHIN).await?;
        Ok(Self { db, bus, servers, _lock: lock })
    }

    /// Stops what was started for the command.
    pub(crate) async fn end(self) -> anyhow::Result<()> {
        self.bus.close().await;
        self.db.close().await;
        match self.servers {
            Some(mut servers) => servers.stop().await,
            None => Ok(()),
        }
    }
}
