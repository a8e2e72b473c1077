//! A server as a child process.

use crate::{log_tail, open_private};
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
const STOP_TIMEOUT: Duration = Duration::from_secs(20);

/// A running server. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Server {
    name: &'static str,
    child: Child,
    log: PathBuf,
    /// The signal for a graceful stop.
    stop_signal: Signal,
}

impl Server {
    pub(crate) fn spawn(
        name: &'static str,
        mut command: Command,
        log: &Path,
        pid_file: &Path,
        stop_signal: Signal,
    ) -> anyhow::Result<Self> {
        // The log of Postgres may have values of rows.
        let output = open_private(File::options().write(true).truncate(true), log);
        let output = output.with_context(|| format!("cannot write {}", log.display()))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            // Ctrl-C in a terminal goes to the whole process group, but servers must stop after their clients.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        let server = Self { name, child, log: log.to_owned(), stop_signal };
        // The server also writes this file, but later. If this process is killed before, the server could not be found.
        std::fs::write(pid_file, server.id()?.to_string())
            .with_context(|| format!("cannot write {}", pid_file.display()))?;
        Ok(server)
    }

    /// # Errors
    /// The server has ended; the error contains the end of its log.
    pub(crate) fn check_running(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => Err(self.exit_error(status)),
        }
    }

    fn exit_error(&self, status: ExitStatus) -> anyhow::Error {
        anyhow::anyhow!(
            "{} ended ({status}); its log {} ends with\n  {}",
            self.name,
            self.log.display(),
            log_tail(&self.log)
        )
    }

    /// Returns an error when the server ends by itself.
    pub(crate) async fn watch(&mut self) -> anyhow::Result<()> {
        let status = self.child.wait().await?;
        Err(self.exit_error(status))
    }

    /// Its process id.
    pub(crate) fn id(&self) -> anyhow::Result<u32> {
        self.child.id().with_context(|| format!("{} has ended", self.name))
    }

    pub(crate) fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let Some(id) = self.child.id() else { bail!("{} is not running", self.name) };
        let pid = Pid::from_raw(i32::try_from(id)?);
        kill(pid, signal).with_context(|| format!("cannot send {signal} to {}", self.name))
    }

    /// Kills the server.
    pub(crate) async fn kill(&mut self) -> anyhow::Result<()> {
        Ok(self.child.kill().await?)
    }

    /// Stops the server gracefully, or kills it after a timeout.
    pub(crate) async fn stop(&mut self) -> anyhow::Result<()> {
        if self.child.id().is_none() {
            return Ok(());
        }
        self.signal(self.stop_signal)?;
        if timeout(STOP_TIMEOUT, self.child.wait()).await.is_err() {
            self.child.kill().await?;
        }
        Ok(())
    }
}
