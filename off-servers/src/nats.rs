//! A private NATS server with JetStream.

use crate::{Server, find_in_path, free_ports, leftover, new_password, room_on_disk, write_private};
use anyhow::{Context, bail, ensure};
use nix::sys::signal::Signal;
use off_kit::{Bus, bus, http};
use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::process::Command;
use tracing::warn;

/// How long the server may take to answer after a start.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);

/// How often the health of the server is polled.
const POLL_INTERVAL: Duration = Duration::from_secs(2);

/// The server is restarted after this many consecutive failed polls.
const POLLS_BEFORE_RESTART: u32 = 3;

/// Part of the health response while the server cannot write; the text is that of the operating system.
const DISK_IS_FULL: &str = "no space left on device";

/// With less free disk space than this, in bytes, a restart would not help.
const MIN_FREE_TO_RESTART: u64 = 16 * 1024 * 1024;

/// A NATS server on loopback.
#[derive(Debug)]
pub struct Nats {
    /// Its URL, with user and password.
    pub url: String,
    /// The address of its monitoring endpoint.
    monitoring: SocketAddr,
    server: Server,
    program: PathBuf,
    folder: PathBuf,
}

/// The `nats-server` to use and its version: the one in `tools`, or else the one in `PATH`.
///
/// # Errors
/// There is none, it cannot be executed, or it is too old.
pub async fn find_nats_server(tools: &Path) -> anyhow::Result<(PathBuf, String)> {
    let (major, minor, _) = bus::OLDEST_SERVER;
    let own = tools.join("nats-server");
    let found = if own.is_file() { Some(own) } else { find_in_path("nats-server") };
    let Some(path) = found else {
        bail!(
            "nats-server is not installed: ./run installs it, or see https://nats.io/download ({major}.{minor} or newer)"
        );
    };
    let output = Command::new(&path).arg("--version").output().await;
    let output = output.with_context(|| format!("cannot run {}", path.display()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let version = text.trim().rsplit(' ').next().unwrap_or_default().trim_start_matches('v').to_owned();
    let mut numbers = version.split('.').map_while(|number| number.parse::<i64>().ok());
    let is_new = numbers.next().zip(numbers.next()).is_some_and(|found| found >= (major, minor));
    anyhow::ensure!(is_new, "{} is version {version}, {major}.{minor} or newer is needed", path.display());
    Ok((path, version))
}

impl Nats {
    /// Starts a server with its files in `folder` and additional JetStream `settings`. Returns when it answers.
    pub async fn start(program: &Path, folder: &Path, settings: &[&str]) -> anyhow::Result<Self> {
        tokio::fs::create_dir_all(folder).await.with_context(|| format!("cannot create {}", folder.display()))?;
        Self::stop_leftover(folder).await;
        let [port, monitoring] = free_ports()?;
        let (monitoring, password) = (SocketAddr::from((Ipv4Addr::LOCALHOST, monitoring)), new_password());
        let config = folder.join("nats.conf");
        let text = format!(
            "# Written at every start.\n\
             server_name: \"off\"\n\
             listen: \"127.0.0.1:{port}\"\n\
             http: \"{monitoring}\"\n\
             pid_file: {pid}\n\
             authorization {{ user: \"off\", password: \"{password}\" }}\n\
             # A client that vanished without closing its connection must not get requests for longer than 15 s.\n\
             ping_interval: \"5s\"\n\
             ping_max: 2\n\
             # A kill loses no acknowledged message, a power cut at most those of the last second.\n\
             jetstream {{ store_dir: {store}, sync_interval: \"1s\", max_file_store: 8GB{more} }}\n",
            pid = quoted(&folder.join("nats.pid")),
            store = quoted(&folder.join("store")),
            more = settings.iter().flat_map(|&setting| [", ", setting]).collect::<String>(),
        );
        write_private(&config, &text)?;
        let url = format!("nats://off:{password}@127.0.0.1:{port}");
        let server = spawn(program, folder)?;
        let mut nats = Self { url, monitoring, server, program: program.to_owned(), folder: folder.to_owned() };
        nats.wait_until_ready().await?;
        Ok(nats)
    }

    /// Stops the server that a killed process left behind in `folder`; returns whether there was one. Two servers would
    /// corrupt the same store.
    pub async fn stop_leftover(folder: &Path) -> bool {
        leftover::stop(&folder.join("nats.pid"), "nats-server", folder, Signal::SIGTERM).await
    }

    /// Starts the server again after it ended, with the same address and data.
    pub async fn start_again(&mut self) -> anyhow::Result<()> {
        self.server = spawn(&self.program, &self.folder)?;
        self.wait_until_ready().await
    }

    /// Stops it gracefully.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        self.server.stop().await
    }

    /// Returns an error when the server ends by itself. Restarts a server whose storage still fails after its disk has
    /// free space again: nats-server 2.15.1 reports ENOSPC until it is restarted, and acknowledges no message
    /// meanwhile.
    pub async fn watch(&mut self) -> anyhow::Result<()> {
        let mut failed = 0;
        loop {
            tokio::select! {
                ended = self.server.watch() => return ended,
                () = tokio::time::sleep(POLL_INTERVAL) => {}
            }
            // Other errors are ignored: a busy server may answer late, and one that recovers its streams is not
            // failing.
            let problem = match http::get(self.monitoring, "/healthz").await {
                Ok((_, body)) if body.contains(DISK_IS_FULL) => body,
                _ => {
                    failed = 0;
                    continue;
                }
            };
            failed += 1;
            let free = room_on_disk(&self.folder)?;
            if free < MIN_FREE_TO_RESTART {
                warn!("nats-server cannot store messages, its disk is full ({} KiB free): {problem}", free / 1024);
            } else if failed >= POLLS_BEFORE_RESTART {
                warn!("nats-server still fails although its disk has free space, restarting it: {problem}");
                self.server.stop().await?;
                self.start_again().await?;
                failed = 0;
            }
        }
    }

    /// Kills the server, as a crash would.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        self.server.kill().await
    }

    /// Kills the server, runs a shell script in its folder, where `store` contains the streams, and starts it again.
    pub async fn with_store(&mut self, script: &str) -> anyhow::Result<()> {
        self.kill().await?;
        let done = Command::new("sh").args(["-c", script]).current_dir(&self.folder).status().await?;
        ensure!(done.success(), "{script} ended with {done}");
        self.start_again().await.context("cannot restart NATS")
    }

    /// Its process id.
    ///
    /// # Errors
    /// The server has ended.
    pub fn id(&self) -> anyhow::Result<u32> {
        self.server.id()
    }

    /// Sends a signal to the server, for tests that freeze it.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        self.server.signal(signal)
    }

    /// Waits until the server accepts connections.
    async fn wait_until_ready(&mut self) -> anyhow::Result<()> {
        let bus = Bus::connect(&bus::Config::at(&self.url), "start").await?;
        let deadline = tokio::time::Instant::now() + ANSWER_TIMEOUT;
        while bus.connected(Duration::from_millis(200)).await.is_err() {
            self.server.check_running()?;
            anyhow::ensure!(tokio::time::Instant::now() < deadline, "nats-server does not answer");
        }
        bus.close().await;
        Ok(())
    }
}

fn spawn(program: &Path, folder: &Path) -> anyhow::Result<Server> {
    let mut command = Command::new(program);
    command.arg("--config").arg(folder.join("nats.conf"));
    Server::spawn("nats-server", command, &folder.join("nats.log"), &folder.join("nats.pid"), Signal::SIGTERM)
}

/// A path as a quoted string of the nats-server configuration.
fn quoted(path: &Path) -> String {
    format!("\"{}\"", path.display().to_string().replace('\\', "\\\\").replace('"', "\\\""))
}
