//! A private Postgres cluster.

mod find;
mod initdb;
mod owner;

use crate::{Server, free_port, leftover, write_private};
use anyhow::Context;
pub use find::{OLDEST_POSTGRES, find_postgres};
use initdb::{empty, initialize};
use nix::{
    sys::signal::Signal,
    unistd::{Uid, User},
};
use owner::{as_user, create_data_folder, server_user};
use sqlx::{Connection, PgConnection, postgres::PgConnectOptions};
use std::{
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};
use tokio::process::Command;

/// How long the server may take to answer after a start, including crash recovery.
const ANSWER_TIMEOUT: Duration = Duration::from_mins(2);

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
        let own = [
            port_setting.as_str(),
            "listen_addresses=127.0.0.1",
            "unix_socket_directories=",
            "max_connections=300",
            // Neither values of rows nor statements, which may be personal.
            "log_error_verbosity=terse",
            "log_min_error_statement=panic",
        ];
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

    /// Marks the cluster in `folder` as incomplete, before it is deleted: if that is interrupted, the next start
    /// creates a new cluster instead of using the rest.
    ///
    /// # Errors
    /// The mark cannot be written.
    pub fn mark_incomplete(folder: &Path) -> anyhow::Result<()> {
        write_private(&folder.with_extension("initdb"), "")
    }

    /// Stops the server that a killed process left behind in `folder`; returns whether there was one.
    pub async fn stop_leftover(folder: &Path) -> bool {
        let data = std::fs::read_link(folder).unwrap_or_else(|_| folder.to_owned());
        let mut was_running = false;
        for pid_file in [folder.with_extension("pid"), data.join("postmaster.pid")] {
            was_running |= leftover::stop(&pid_file, "postgres", &data, Signal::SIGINT).await;
        }
        was_running
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
