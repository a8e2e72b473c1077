//! A private Postgres cluster.

use crate::{Server, find_in_path, free_port, leftover, new_password, write_private};
use anyhow::{Context, bail};
use nix::{
    sys::signal::Signal,
    unistd::{Uid, User, chown},
};
use sqlx::{Connection, PgConnection, postgres::PgConnectOptions};
use std::{
    env,
    os::unix::fs::{MetadataExt, symlink},
    path::{Path, PathBuf},
    process::Stdio,
    str::FromStr,
    time::Duration,
};
use tokio::process::Command;

/// The oldest major version of Postgres that is tested.
pub const OLDEST_POSTGRES: u32 = 15;

/// How long the server may take to answer after a start, including crash recovery.
const ANSWER_TIMEOUT: Duration = Duration::from_mins(2);

/// How often to delete what an interrupted initdb left, how many times, and how many times the folder has to be empty.
const EMPTY_POLL_INTERVAL: Duration = Duration::from_millis(100);
const EMPTY_POLLS: u32 = 100;
const POLLS_UNTIL_EMPTY: u32 = 3;

/// A Postgres server on loopback, with a database `off`.
#[derive(Debug)]
pub struct Postgres {
    /// The URL of the database `off`, with the password.
    pub url: String,
    server: Server,
    cluster: Cluster,
}

/// All settings to start the server of a cluster, also again on the same port.
#[derive(Debug)]
struct Cluster {
    programs: PathBuf,
    data: PathBuf,
    log: PathBuf,
    pid_file: PathBuf,
    /// The user that the server runs as; `None` is the current user.
    user: Option<User>,
    settings: Vec<String>,
}

/// The folder of the newest installed Postgres server programs, and their major version.
///
/// # Errors
/// Postgres is not installed or too old.
pub async fn find_postgres() -> anyhow::Result<(PathBuf, u32)> {
    let mut found = Vec::new();
    for folder in candidate_folders() {
        if let Some(version) = version_of(&folder.join("postgres")).await
            && folder.join("initdb").is_file()
        {
            found.push((folder, version));
        }
    }
    let Some((folder, version)) = found.into_iter().max_by_key(|(_, version)| *version) else {
        bail!("the PostgreSQL server is not installed: ./run installs it ({OLDEST_POSTGRES} or newer is needed)");
    };
    anyhow::ensure!(
        version >= OLDEST_POSTGRES,
        "PostgreSQL {version} in {} is too old, {OLDEST_POSTGRES} or newer is needed",
        folder.display()
    );
    Ok((folder, version))
}

/// The folders in which distributions install the server programs: Debian outside of `PATH`, Homebrew in one per
/// version.
fn candidate_folders() -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> =
        find_in_path("postgres").iter().filter_map(|path| path.parent()).map(Path::to_owned).collect();
    for (parent, inside) in [("/usr/lib/postgresql", "bin"), ("/opt/homebrew/opt", "bin"), ("/usr/local/opt", "bin")] {
        let entries = std::fs::read_dir(parent).into_iter().flatten().flatten();
        folders
            .extend(entries.map(|entry| entry.path().join(inside)).filter(|folder| folder.join("postgres").is_file()));
    }
    folders
}

/// The major version from the output of `postgres --version`, like `postgres (PostgreSQL) 15.18`.
async fn version_of(program: &Path) -> Option<u32> {
    let output = Command::new(program).arg("--version").output().await.ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.split(' ').find_map(|word| word.split(['.', '\n']).next()?.parse().ok())
}

impl Postgres {
    /// Creates the data folder of the cluster in `folder`, and returns its path. If the user of the server cannot
    /// access `folder`, the data folder is elsewhere and `folder` is a link to it.
    pub fn make_place(folder: &Path) -> anyhow::Result<PathBuf> {
        let user = if Uid::effective().is_root() { Some(server_user()?) } else { None };
        create_data_folder(folder, user.as_ref())
    }

    /// Starts the cluster in `folder` with additional `settings`; creates it first if it does not exist. Returns when
    /// it answers. For root, the server runs as another user, because Postgres refuses to run as root.
    pub async fn start(programs: &Path, folder: &Path, settings: &[&str]) -> anyhow::Result<Self> {
        let user = if Uid::effective().is_root() { Some(server_user()?) } else { None };
        let data = create_data_folder(folder, user.as_ref())?;
        let password_file = folder.with_extension("password");
        Self::stop_leftover(folder).await;
        let unfinished = folder.with_extension("initdb");
        if unfinished.exists() {
            leftover::stop(&unfinished, "initdb", &data, Signal::SIGKILL).await;
            empty(&data).await?;
        }
        if !data.join("PG_VERSION").exists() {
            initialize(programs, &data, &password_file, &unfinished, user.as_ref()).await?;
        }
        let password = tokio::fs::read_to_string(&password_file)
            .await
            .with_context(|| format!("{} is missing; `off reset` starts over", password_file.display()))?;
        let port = free_port()?;
        let port_setting = format!("port={port}");
        let own =
            [port_setting.as_str(), "listen_addresses=127.0.0.1", "unix_socket_directories=", "max_connections=300"];
        let settings = own.iter().chain(settings).map(|&setting| setting.to_owned()).collect();
        let log = folder.with_extension("log");
        let pid_file = folder.with_extension("pid");
        let cluster = Cluster { programs: programs.to_owned(), data, log, pid_file, user, settings };
        let server = cluster.spawn()?;
        let url = format!("postgres://off:{}@127.0.0.1:{port}/off", password.trim());
        let mut postgres = Self { url, server, cluster };
        postgres.wait_until_ready().await?;
        Ok(postgres)
    }

    /// Marks the cluster in `folder` as incomplete, before it is deleted: if that is interrupted, the next start creates a new
    /// cluster instead of using the rest.
    ///
    /// # Errors
    /// The mark cannot be written.
    pub fn mark_incomplete(folder: &Path) -> anyhow::Result<()> {
        write_private(&folder.with_extension("initdb"), "")
    }

    /// Stops the server that a killed process left behind in `folder`.
    pub async fn stop_leftover(folder: &Path) {
        let data = std::fs::read_link(folder).unwrap_or_else(|_| folder.to_owned());
        for pid_file in [folder.with_extension("pid"), data.join("postmaster.pid")] {
            leftover::stop(&pid_file, "postgres", &data, Signal::SIGINT).await;
        }
    }

    /// Starts it again after [`Postgres::stop`], at the same address.
    pub async fn start_again(&mut self) -> anyhow::Result<()> {
        self.server = self.cluster.spawn()?;
        self.wait_until_ready().await
    }

    /// Kills the server, as a crash would.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        self.server.kill().await
    }

    /// Stops the server (fast shutdown); open connections are closed.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        self.server.stop().await
    }

    /// The process id of the postmaster.
    ///
    /// # Errors
    /// The server has ended.
    pub fn id(&self) -> anyhow::Result<u32> {
        self.server.id()
    }

    /// Returns an error when the server ends by itself.
    pub async fn watch(&mut self) -> anyhow::Result<()> {
        self.server.watch().await
    }

    /// Waits until the server answers, and creates the database `off` if it is missing.
    async fn wait_until_ready(&mut self) -> anyhow::Result<()> {
        // initdb creates this database in each cluster.
        let options = PgConnectOptions::from_str(&self.url)?.database("postgres");
        let deadline = tokio::time::Instant::now() + ANSWER_TIMEOUT;
        let mut conn = loop {
            match PgConnection::connect_with(&options).await {
                Ok(conn) => break conn,
                Err(error) => {
                    self.server.check_running()?;
                    if tokio::time::Instant::now() >= deadline {
                        return Err(error).context("Postgres does not answer");
                    }
                    tokio::time::sleep(Duration::from_millis(30)).await;
                }
            }
        };
        let exists: bool = sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_database WHERE datname = 'off')")
            .fetch_one(&mut conn)
            .await?;
        if !exists {
            sqlx::query("CREATE DATABASE off").execute(&mut conn).await?;
        }
        conn.close().await?;
        Ok(())
    }
}

impl Cluster {
    fn spawn(&self) -> anyhow::Result<Server> {
        let mut command = as_user(Command::new(self.programs.join("postgres")), self.user.as_ref());
        command.arg("-D").arg(&self.data).current_dir("/");
        for setting in &self.settings {
            command.args(["-c", setting]);
        }
        Server::spawn("Postgres", command, &self.log, &self.pid_file, Signal::SIGINT)
    }
}

/// The user that the server runs as when this process is root: the one that its package created, or else nobody.
fn server_user() -> anyhow::Result<User> {
    for name in ["postgres", "nobody"] {
        if let Some(user) = User::from_name(name)? {
            return Ok(user);
        }
    }
    bail!("Postgres refuses to run as root, and neither of the users postgres and nobody exists")
}

fn as_user(mut command: Command, user: Option<&User>) -> Command {
    if let Some(user) = user {
        command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
    }
    command
}

/// Creates the data folder: `folder` itself, or, if the user of the server cannot access it (as below /root), a folder
/// below /var/lib to which `folder` then links.
fn create_data_folder(folder: &Path, user: Option<&User>) -> anyhow::Result<PathBuf> {
    let creating = || format!("cannot create {}", folder.display());
    let link = std::fs::read_link(folder).ok();
    let Some(user) = user else {
        if let Some(target) = link {
            return Ok(target);
        }
        std::fs::create_dir_all(folder).with_context(creating)?;
        return Ok(folder.to_owned());
    };
    let parent = folder.parent().unwrap_or(Path::new("/"));
    let data = if let Some(target) = link {
        target
    } else if folder.exists() || is_reachable(parent, user) {
        folder.to_owned()
    } else {
        let elsewhere = PathBuf::from("/var/lib").join(format!("off-{}", new_password().get(..8).unwrap_or_default()));
        symlink(&elsewhere, folder).with_context(creating)?;
        elsewhere
    };
    std::fs::create_dir_all(&data).with_context(creating)?;
    chown(&data, Some(user.uid), Some(user.gid)).with_context(creating)?;
    Ok(data)
}

/// Whether `user` may traverse all folders down to `path`.
fn is_reachable(path: &Path, user: &User) -> bool {
    path.ancestors().all(|folder| {
        std::fs::metadata(folder).is_ok_and(|folder| {
            let mode = folder.mode();
            mode & 0o001 != 0
                || (folder.uid() == user.uid.as_raw() && mode & 0o100 != 0)
                || (folder.gid() == user.gid.as_raw() && mode & 0o010 != 0)
        })
    })
}

/// Deletes the contents of `folder`, but not the folder itself, which may be a mount point. A process that a killed initdb
/// started may still write there, so it is retried until the folder stays empty.
async fn empty(folder: &Path) -> anyhow::Result<()> {
    let mut polls_empty = 0;
    for _ in 0..EMPTY_POLLS {
        polls_empty = if remove_contents(folder).is_ok_and(|removed| removed == 0) { polls_empty + 1 } else { 0 };
        if polls_empty == POLLS_UNTIL_EMPTY {
            return Ok(());
        }
        tokio::time::sleep(EMPTY_POLL_INTERVAL).await;
    }
    remove_contents(folder).map(drop).with_context(|| format!("cannot empty {}", folder.display()))
}

/// Deletes what is in `folder`; returns how many files and folders were there.
fn remove_contents(folder: &Path) -> std::io::Result<usize> {
    let mut removed = 0;
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            std::fs::remove_dir_all(&path)?;
        } else {
            std::fs::remove_file(&path)?;
        }
        removed += 1;
    }
    Ok(removed)
}

/// Creates the cluster with initdb. Meanwhile the file `unfinished` exists and contains the process id of initdb: if it
/// is killed, its files look like a cluster but are incomplete.
async fn initialize(
    programs: &Path,
    data: &Path,
    password_file: &Path,
    unfinished: &Path,
    user: Option<&User>,
) -> anyhow::Result<()> {
    // A copy of the password that the user of the server can read; it may be unable to access `password_file`.
    let readable_password_file = env::temp_dir().join(format!("off-{}", new_password()));
    let password = new_password();
    write_private(password_file, &password)?;
    write_private(unfinished, "")?;
    write_private(&readable_password_file, &password)?;
    if let Some(user) = user {
        chown(&readable_password_file, Some(user.uid), Some(user.gid))?;
    }
    let mut command = as_user(Command::new(programs.join("initdb")), user);
    command
        .arg("-D")
        .arg(data)
        .args(["-U", "off", "-A", "scram-sha-256", "-E", "UTF8", "--locale=C", "--no-instructions", "--pwfile"])
        .arg(&readable_password_file)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let output = async {
        let initdb = command.spawn()?;
        std::fs::write(unfinished, initdb.id().unwrap_or_default().to_string())?;
        initdb.wait_with_output().await
    };
    let output = output.await;
    std::fs::remove_file(&readable_password_file)?;
    let output = output.context("cannot run initdb")?;
    anyhow::ensure!(
        output.status.success(),
        "initdb could not create a cluster in {}:\n{}",
        data.display(),
        String::from_utf8_lossy(&output.stderr)
    );
    std::fs::remove_file(unfinished)?;
    Ok(())
}
