//! A server as a child process.

use super::log_tail;
use anyhow::{Context, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};
use tokio::{
    process::{Child, Command},
    time::timeout,
};

/// How long a server may take to stop before it is killed.
const STOP_WITHIN: Duration = Duration::from_secs(20);

/// A running server. Dropping it kills it.
#[derive(Debug)]
pub(super) struct Server {
    name: &'static str,
    child: Child,
    log: PathBuf,
    /// The signal that makes it stop in order.
    stop_signal: Signal,
}

impl Server {
    pub(super) fn spawn(
        name: &'static str,
        mut command: Command,
        log: &Path,
        pid_file: &Path,
        stop_signal: Signal,
    ) -> anyhow::Result<Self> {
        let output = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            // Ctrl-C in a terminal goes to every process of its group; servers are stopped when their users are done.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        let server = Self { name, child, log: log.to_owned(), stop_signal };
        // The server writes such a file itself, but later: whoever is killed before would leave a server that nobody finds.
        std::fs::write(pid_file, server.id()?.to_string())
            .with_context(|| format!("cannot write {}", pid_file.display()))?;
        Ok(server)
    }

    /// An error with the last words of the server, once it has ended.
    pub(super) fn check_running(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => Err(self.death(status)),
        }
    }

    fn death(&self, status: ExitStatus) -> anyhow::Error {
        anyhow::anyhow!(
            "{} ended ({status}); its log {} ends with\n  {}",
            self.name,
            self.log.display(),
            log_tail(&self.log)
        )
    }

    /// Ends with an error when the server ends by itself.
    pub(super) async fn watch(&mut self) -> anyhow::Result<()> {
        let status = self.child.wait().await?;
        Err(self.death(status))
    }

    /// The number of its process.
    pub(super) fn id(&self) -> anyhow::Result<u32> {
        self.child.id().with_context(|| format!("{} has ended", self.name))
    }

    pub(super) fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let Some(id) = self.child.id() else { bail!("{} does not run", self.name) };
        let pid = Pid::from_raw(i32::try_from(id)?);
        kill(pid, signal).with_context(|| format!("cannot send {signal} to {}", self.name))
    }

    /// Ends it on the spot.
    pub(super) async fn kill(&mut self) -> anyhow::Result<()> {
        Ok(self.child.kill().await?)
    }

    /// Stops it in order, or kills it when that takes too long.
    pub(super) async fn stop(&mut self) -> anyhow::Result<()> {
        if self.child.id().is_none() {
            return Ok(());
        }
        self.signal(self.stop_signal)?;
        if timeout(STOP_WITHIN, self.child.wait()).await.is_err() {
            self.child.kill().await?;
        }
        Ok(())
    }
}
