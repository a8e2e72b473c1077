//! A NATS server of one's own, with JetStream.

use super::{Server, find_in_path, free_ports, leftover, new_password, room_on_disk, write_private};
use crate::{Bus, bus, http};
use anyhow::{Context, bail, ensure};
use nix::sys::signal::Signal;
use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::process::Command;
use tracing::warn;

/// How long it may take until it answers.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// How often its health is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// It is restarted when this many looks in a row found it failing.
const LOOKS_BEFORE_RESTART: u32 = 3;

/// What it says of its health while it cannot write, in the words of the operating system.
const DISK_IS_FULL: &str = "no space left on device";

/// With less free on its disk than this, in bytes, a restart would not help.
const ROOM_TO_RESTART: u64 = 16 * 1024 * 1024;

/// A NATS server on loopback.
#[derive(Debug)]
pub struct Nats {
    pub url: String,
    /// Where it tells of its health.
    monitoring: SocketAddr,
    server: Server,
    program: PathBuf,
    folder: PathBuf,
}

/// The `nats-server` to use: the one in `tools`, else the one in the `PATH`; and its version.
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
    let output = output.with_context(|| format!("{} does not run", path.display()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let version = text.trim().rsplit(' ').next().unwrap_or_default().trim_start_matches('v').to_owned();
    let mut numbers = version.split('.').map_while(|number| number.parse::<i64>().ok());
    let is_new = numbers.next().zip(numbers.next()).is_some_and(|found| found >= (major, minor));
    anyhow::ensure!(is_new, "{} is version {version}, {major}.{minor} or newer is needed", path.display());
    Ok((path, version))
}

impl Nats {
    /// Starts a server that keeps all it has in `folder`, with these settings of JetStream beside its own; returns once
    /// it answers.
    pub async fn start(program: &Path, folder: &Path, settings: &[&str]) -> anyhow::Result<Self> {
        tokio::fs::create_dir_all(folder).await.with_context(|| format!("cannot make {}", folder.display()))?;
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
             # A kill loses nothing that was acknowledged, a power cut at most what came in the last second.\n\
             jetstream {{ store_dir: {store}, sync_interval: \"1s\", max_file_store: 8GB{more} }}\n",
            pid = quoted(&folder.join("nats.pid")),
            store = quoted(&folder.join("store")),
            more = settings.iter().flat_map(|&setting| [", ", setting]).collect::<String>(),
        );
        write_private(&config, &text)?;
        let url = format!("nats://off:{password}@127.0.0.1:{port}");
        let server = spawn(program, folder)?;
        let mut nats = Self { url, monitoring, server, program: program.to_owned(), folder: folder.to_owned() };
        nats.answers().await?;
        Ok(nats)
    }

    /// Stops a server of `folder` that was left behind by a process that was killed: two on the same store would ruin it.
    pub async fn stop_leftover(folder: &Path) {
        leftover::stop(&folder.join("nats.pid"), "nats-server", folder, Signal::SIGTERM).await;
    }

    /// Starts it again after it ended, at the same address and with all it had.
    pub async fn start_again(&mut self) -> anyhow::Result<()> {
        self.server = spawn(&self.program, &self.folder)?;
        self.answers().await
    }

    /// Stops it in order.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        self.server.stop().await
    }

    /// Ends with an error when the server ends by itself. Restarts one whose storage goes on failing after its disk has room
    /// again: nats-server 2.15.1 was seen to report ENOSPC until it is restarted, and to answer no publisher meanwhile.
    pub async fn watch(&mut self) -> anyhow::Result<()> {
        let mut failed = 0;
        loop {
            tokio::select! {
                ended = self.server.watch() => return ended,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            // A server that is busy may answer late, and one that recovers its streams is not failing.
            let problem = match http::get(self.monitoring, "/healthz").await {
                Ok((_, said)) if said.contains(DISK_IS_FULL) => said,
                _ => {
                    failed = 0;
                    continue;
                }
            };
            failed += 1;
            let room = room_on_disk(&self.folder)?;
            if room < ROOM_TO_RESTART {
                warn!("nats-server cannot store messages, its disk is full ({} KiB left): {problem}", room / 1024);
            } else if failed >= LOOKS_BEFORE_RESTART {
                warn!("nats-server goes on failing although its disk has room, restarting it: {problem}");
                self.server.stop().await?;
                self.start_again().await?;
                failed = 0;
            }
        }
    }

    /// Ends it on the spot, as a crash would.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        self.server.kill().await
    }

    /// Kills it, runs a script of the shell in its folder, where `store` holds its streams, and starts it again.
    pub async fn with_store(&mut self, script: &str) -> anyhow::Result<()> {
        self.kill().await?;
        let done = Command::new("sh").args(["-c", script]).current_dir(&self.folder).status().await?;
        ensure!(done.success(), "{script} ended with {done}");
        self.start_again().await.context("NATS does not start again")
    }

    /// The number of its process.
    pub fn id(&self) -> anyhow::Result<u32> {
        self.server.id()
    }

    /// Sends the server a signal, as tests do that freeze it.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        self.server.signal(signal)
    }

    async fn answers(&mut self) -> anyhow::Result<()> {
        let bus = Bus::connect(&bus::Config::at(&self.url), "start").await?;
        let deadline = tokio::time::Instant::now() + ANSWER_WITHIN;
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

/// A path as a string of the configuration's own language.
fn quoted(path: &Path) -> String {
    format!("\"{}\"", path.display().to_string().replace('\\', "\\\\").replace('"', "\\\""))
}
