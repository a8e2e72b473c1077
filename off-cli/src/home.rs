//! The folder `.off/`: its lock, and the description of the running system.

mod secrets;
mod servers;
mod session;

use anyhow::{Context, bail};
use chrono::{DateTime, Utc};
use nix::unistd::Uid;
use off_kit::http;
use off_servers::open_private;
pub use secrets::{AUTH_SECRET, client_file};
use serde::{Deserialize, Serialize};
pub(crate) use servers::Servers;
pub(crate) use session::Session;
use std::{
    fs::{self, DirBuilder, File, Permissions, TryLockError},
    io::{ErrorKind, Write},
    net::SocketAddr,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
};

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
pub(crate) struct RunningSystem {
    pub(crate) pid: u32,
    pub(crate) database_url: String,
    pub(crate) nats_url: String,
    pub(crate) services: Vec<ServiceAddresses>,
}

/// The addresses of a service of a running system.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ServiceAddresses {
    pub(crate) name: String,
    /// The base URL of its API.
    pub(crate) url: String,
    /// The base URL of its health port.
    pub(crate) health_url: String,
}

impl ServiceAddresses {
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

impl Home {
    /// The home in `folder`; nothing is created yet. Fails if the working directory is needed and unknown, or if the
    /// folder exists and cannot be read.
    pub fn new(folder: PathBuf) -> anyhow::Result<Self> {
        // The servers run in other working directories, so they need the absolute path.
        let folder = std::path::absolute(folder).context("OFF_HOME is not a path")?;
        let tools = folder.join("bin");
        let home = Self { folder, tools };
        home.check_readable()?;
        Ok(home)
    }

    /// Fails if another user's system runs here. Otherwise that would look as if nothing ran.
    fn check_readable(&self) -> anyhow::Result<()> {
        match File::open(self.running_file()) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot read {}", self.folder.display()))
            }
            _ => Ok(()),
        }
    }

    /// The file with the addresses of the running system.
    fn running_file(&self) -> PathBuf {
        self.folder.join("running.json")
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
    fn log_file(&self) -> PathBuf {
        self.folder.join("off.log")
    }

    /// Creates the log of the program that holds the lock, if it is missing. Only its owner may read it.
    pub fn create_log(&self) -> anyhow::Result<PathBuf> {
        let log = self.log_file();
        open_private(File::options().append(true), &log).with_context(|| format!("cannot write {}", log.display()))?;
        Ok(log)
    }

    /// The folder of the database's files if it is outside of this folder: under root, Postgres runs as another user,
    /// who may have no access here.
    pub(crate) fn relocated_database(&self) -> Option<PathBuf> {
        fs::read_link(self.folder.join("postgres")).ok()
    }

    /// Renames the log of the last run, so that the log does not grow across runs.
    pub(crate) fn rotate_log(&self) -> anyhow::Result<()> {
        let log = self.log_file();
        // A log of an older version is readable for everybody.
        let private = fs::set_permissions(&log, Permissions::from_mode(0o600));
        match private.and_then(|()| fs::rename(&log, self.folder.join("off.log.old"))) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error).context("cannot rename the last log"),
            _ => Ok(()),
        }
    }

    /// Creates the folder if it is missing. Only its owner may read it.
    pub fn create_folder(&self) -> anyhow::Result<()> {
        // Under root, Postgres runs as another user, who has to get to its files.
        let mode = if Uid::effective().is_root() { 0o711 } else { 0o700 };
        let created = DirBuilder::new().recursive(true).mode(mode).create(&self.folder);
        created.with_context(|| format!("cannot write in {}", self.folder.display()))
    }

    /// Locks the folder for this process; fails if another process holds the lock.
    pub fn lock(&self) -> anyhow::Result<Lock> {
        let cannot_write = || format!("cannot write in {}", self.folder.display());
        self.create_folder()?;
        let file =
            File::options().create(true).append(true).open(self.folder.join("lock")).with_context(cannot_write)?;
        match file.try_lock() {
            Ok(()) => Ok(Lock { _file: file }),
            Err(TryLockError::WouldBlock) => match self.running() {
                Some(RunningSystem { pid, .. }) => bail!(
                    "off is already up in {} (process {pid}): watch it with `off watch`, stop it with `off down`, or \
                     start another one with --home FOLDER",
                    self.folder.display()
                ),
                None => {
                    bail!("another command is using {}, or off is starting there: try again", self.folder.display())
                }
            },
            Err(TryLockError::Error(error)) => Err(error).with_context(cannot_write),
        }
    }

    /// Whether a system or another command holds the lock of the folder.
    pub(crate) fn is_locked(&self) -> bool {
        self.folder.exists() && self.lock().is_err()
    }

    /// The addresses of the running system; `None` if none runs.
    pub(crate) fn running(&self) -> Option<RunningSystem> {
        let text = fs::read_to_string(self.running_file()).ok()?;
        serde_json::from_str(&text).ok()
    }

    pub(crate) fn write_running(&self, running: &RunningSystem) -> anyhow::Result<()> {
        let path = self.running_file();
        // The URLs contain passwords.
        let file = open_private(File::options().write(true).truncate(true), &path);
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
        let _ = fs::remove_file(self.running_file());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn logs_of_an_older_version_become_private() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::new(folder.path().join("off")).unwrap();
        home.create_folder().unwrap();
        let write = |path: &Path| {
            fs::write(path, "a line\n").unwrap();
            fs::set_permissions(path, Permissions::from_mode(0o644)).unwrap();
        };
        write(&home.log_file());
        home.rotate_log().unwrap();
        assert_eq!(mode(&home.folder.join("off.log.old")), 0o600);
        home.rotate_log().unwrap();
        for _ in 0..2 {
            assert_eq!(mode(&home.create_log().unwrap()), 0o600);
            write(&home.log_file());
        }
        home.create_log().unwrap();
        assert_eq!(fs::read_to_string(home.log_file()).unwrap(), "a line\n");
    }
}
