//! A Postgres cluster of one's own.

use super::{Server, find_in_path, free_port, leftover, new_password, write_private};
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

/// The oldest Postgres that is tried out with this code.
pub const OLDEST_POSTGRES: u32 = 15;

/// How long it may take until it answers: it may have to recover first.
const ANSWER_WITHIN: Duration = Duration::from_mins(2);

/// A Postgres server on loopback, with a database `off`.
#[derive(Debug)]
pub struct Postgres {
    /// The database `off`.
    pub url: String,
    server: Server,
    cluster: Cluster,
}

/// What it takes to start the server of a cluster, again on the same port.
#[derive(Debug)]
struct Cluster {
    programs: PathBuf,
    data: PathBuf,
    log: PathBuf,
    pid_file: PathBuf,
    /// Whom the server runs as; `None` is who we are.
    user: Option<User>,
    settings: Vec<String>,
}

/// The folder of the newest Postgres server programs, and their major version.
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

/// Where distributions put the server programs: Debian outside the `PATH`, Homebrew in a folder for each version.
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

/// The major version that `postgres --version` tells, like `postgres (PostgreSQL) 15.18`.
async fn version_of(program: &Path) -> Option<u32> {
    let output = Command::new(program).arg("--version").output().await.ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.split(' ').find_map(|word| word.split(['.', '\n']).next()?.parse().ok())
}

impl Postgres {
    /// Makes the place where the files of the cluster in `folder` go, and says where it is: elsewhere, behind a link, where the
    /// server's user cannot get to `folder`.
    pub fn make_place(folder: &Path) -> anyhow::Result<PathBuf> {
        let user = if Uid::effective().is_root() { Some(server_user()?) } else { None };
        place_for(folder, user.as_ref())
    }

    /// Starts the cluster in `folder`, making it first if need be, with these settings beside its own; returns once it
    /// answers. As root the server runs as another user, because Postgres refuses to be root.
    pub async fn start(programs: &Path, folder: &Path, settings: &[&str]) -> anyhow::Result<Self> {
        let user = if Uid::effective().is_root() { Some(server_user()?) } else { None };
        let data = place_for(folder, user.as_ref())?;
        let password_file = folder.with_extension("password");
        Self::stop_leftover(folder).await;
        let unfinished = folder.with_extension("initdb");
        if unfinished.exists() {
            leftover::stop(&unfinished, "initdb", &data, Signal::SIGKILL).await;
            empty(&data)?;
        }
        if !data.join("PG_VERSION").exists() {
            initialise(programs, &data, &password_file, &unfinished, user.as_ref()).await?;
        }
        let password = tokio::fs::read_to_string(&password_file)
            .await
            .with_context(|| format!("{} is gone; `off reset` starts over", password_file.display()))?;
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
        postgres.answers().await?;
        Ok(postgres)
    }

    /// Stops a server that was left behind in the cluster in `folder` by a process that was killed.
    pub async fn stop_leftover(folder: &Path) {
        let data = std::fs::read_link(folder).unwrap_or_else(|_| folder.to_owned());
        for pid_file in [folder.with_extension("pid"), data.join("postmaster.pid")] {
            leftover::stop(&pid_file, "postgres", &data, Signal::SIGINT).await;
        }
    }

    /// Starts it again after [`Postgres::stop`], at the same address.
    pub async fn start_again(&mut self) -> anyhow::Result<()> {
        self.server = self.cluster.spawn()?;
        self.answers().await
    }

    /// Ends it on the spot, as a crash would.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        self.server.kill().await
    }

    /// Stops it in order; connections are cut.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        self.server.stop().await
    }

    /// The number of its first process.
    pub fn id(&self) -> anyhow::Result<u32> {
        self.server.id()
    }

    /// Ends with an error when the server ends by itself.
    pub async fn watch(&mut self) -> anyhow::Result<()> {
        self.server.watch().await
    }

    /// Waits until it answers, and makes the database `off` the first time.
    async fn answers(&mut self) -> anyhow::Result<()> {
        // Every cluster has this database from its beginning.
        let options = PgConnectOptions::from_str(&self.url)?.database("postgres");
        let deadline = tokio::time::Instant::now() + ANSWER_WITHIN;
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

/// The user a server runs as when we are root: the one its package made for it, else nobody.
fn server_user() -> anyhow::Result<User> {
    for name in ["postgres", "nobody"] {
        if let Some(user) = User::from_name(name)? {
            return Ok(user);
        }
    }
    bail!("Postgres does not run as root, and there is neither a user postgres nor a user nobody to run it as")
}

fn as_user(mut command: Command, user: Option<&User>) -> Command {
    if let Some(user) = user {
        command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
    }
    command
}

/// Where the cluster's files go: `folder`, or, when the server's user cannot get there (as below /root), a folder of
/// the same purpose below /var/lib that `folder` then links to.
fn place_for(folder: &Path, user: Option<&User>) -> anyhow::Result<PathBuf> {
    let making = || format!("cannot make {}", folder.display());
    let link = std::fs::read_link(folder).ok();
    let Some(user) = user else {
        if let Some(target) = link {
            return Ok(target);
        }
        std::fs::create_dir_all(folder).with_context(making)?;
        return Ok(folder.to_owned());
    };
    let parent = folder.parent().unwrap_or(Path::new("/"));
    let data = if let Some(target) = link {
        target
    } else if folder.exists() || is_reachable(parent, user) {
        folder.to_owned()
    } else {
        let elsewhere = PathBuf::from("/var/lib").join(format!("off-{}", new_password().get(..8).unwrap_or_default()));
        symlink(&elsewhere, folder).with_context(making)?;
        elsewhere
    };
    std::fs::create_dir_all(&data).with_context(making)?;
    chown(&data, Some(user.uid), Some(user.gid)).with_context(making)?;
    Ok(data)
}

/// Whether `user` may pass through every folder down to `path`.
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

/// Deletes what is in `folder`, and not itself: it may be where a disk is mounted.
fn empty(folder: &Path) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let removed = if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
        removed.with_context(|| format!("cannot delete {}", path.display()))?;
    }
    Ok(())
}

/// Makes the cluster. The file `unfinished` is there while it is made, with the number of the process that does it: what a kill leaves
/// of it looks like a cluster and is none.
async fn initialise(
    programs: &Path,
    data: &Path,
    password_file: &Path,
    unfinished: &Path,
    user: Option<&User>,
) -> anyhow::Result<()> {
    // The new cluster's superuser has to read it while it is made, whoever that is and wherever ours may not be read.
    let passed = env::temp_dir().join(format!("off-{}", new_password()));
    let password = new_password();
    write_private(password_file, &password)?;
    write_private(unfinished, "")?;
    write_private(&passed, &password)?;
    if let Some(user) = user {
        chown(&passed, Some(user.uid), Some(user.gid))?;
    }
    let mut command = as_user(Command::new(programs.join("initdb")), user);
    command
        .arg("-D")
        .arg(data)
        .args(["-U", "off", "-A", "scram-sha-256", "-E", "UTF8", "--locale=C", "--no-instructions", "--pwfile"])
        .arg(&passed)
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
    std::fs::remove_file(&passed)?;
    let output = output.context("initdb does not run")?;
    anyhow::ensure!(
        output.status.success(),
        "initdb could not make a cluster in {}:\n{}",
        data.display(),
        String::from_utf8_lossy(&output.stderr)
    );
    std::fs::remove_file(unfinished)?;
    Ok(())
}
