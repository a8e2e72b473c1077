//! Runs a program as a child process.

use anyhow::Context;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{
    ffi::{OsStr, OsString},
    fs::File,
    path::{Path, PathBuf},
    process::{ExitStatus, Output, Stdio},
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStderr, Command},
    time::timeout,
};

/// How long a program may take to end after SIGTERM.
const STOP_TIMEOUT: Duration = Duration::from_mins(1);

/// Where the standard error of a program goes.
#[derive(Debug)]
pub enum Log {
    /// To the standard error of this process.
    Inherited,
    /// To the end of this file.
    Appended(PathBuf),
    /// To [`Process::take_log`].
    Piped,
}

/// A program with its arguments, environment and log, and the child process while it runs. The process is killed when
/// this is dropped.
#[derive(Debug)]
pub struct Process {
    program: PathBuf,
    arguments: Vec<OsString>,
    /// Variables that are set, or removed if they are `None`.
    environment: Vec<(OsString, Option<OsString>)>,
    log: Log,
    has_own_group: bool,
    /// `None` while it is stopped on purpose.
    child: Option<Child>,
    /// Exit statuses of unexpected exits.
    exits: Vec<ExitStatus>,
}

impl Process {
    /// The program at this path, or of this name in `PATH`. It is not started yet; its log is [`Log::Inherited`].
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            arguments: Vec::new(),
            environment: Vec::new(),
            log: Log::Inherited,
            has_own_group: false,
            child: None,
            exits: Vec::new(),
        }
    }

    /// Adds arguments.
    #[must_use]
    pub fn arguments(mut self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.arguments.extend(arguments.into_iter().map(|argument| argument.as_ref().to_owned()));
        self
    }

    /// Sets environment variables; the others are those of this process.
    #[must_use]
    pub fn environment(mut self, variables: impl IntoIterator<Item = (impl AsRef<OsStr>, impl AsRef<OsStr>)>) -> Self {
        let variables = variables.into_iter();
        self.environment
            .extend(variables.map(|(name, value)| (name.as_ref().to_owned(), Some(value.as_ref().to_owned()))));
        self
    }

    /// Removes environment variables of this process, unless they are set later.
    #[must_use]
    pub fn without_environment(mut self, names: &[&str]) -> Self {
        self.environment.extend(names.iter().map(|name| (name.into(), None)));
        self
    }

    /// Sets where its standard error goes.
    #[must_use]
    pub fn log(mut self, log: Log) -> Self {
        self.log = log;
        self
    }

    /// Gives it a process group of its own, so that Ctrl-C reaches only this process.
    #[must_use]
    pub fn in_own_group(mut self) -> Self {
        self.has_own_group = true;
        self
    }

    /// The program, for messages.
    pub fn program(&self) -> &Path {
        &self.program
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).stdin(Stdio::null()).kill_on_drop(true);
        for (name, value) in &self.environment {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        if self.has_own_group {
            command.process_group(0);
        }
        command
    }

    /// Starts it if it does not run. An unexpected exit since the last start is recorded. Fails if the program does not
    /// exist or its log cannot be written.
    pub fn start(&mut self) -> anyhow::Result<()> {
        if self.is_running()? {
            return Ok(());
        }
        let log = match &self.log {
            Log::Inherited => Stdio::inherit(),
            Log::Piped => Stdio::piped(),
            Log::Appended(path) => {
                let file = off_servers::open_private(File::options().append(true), path);
                file.with_context(|| format!("cannot open the log {}", path.display()))?.into()
            }
        };
        let child = self.command().stdout(Stdio::null()).stderr(log).spawn();
        self.child = Some(child.with_context(|| format!("cannot start {}", self.program.display()))?);
        Ok(())
    }

    /// Whether it runs. Records its exit status if it exited unexpectedly. Fails if its state cannot be read.
    pub fn is_running(&mut self) -> anyhow::Result<bool> {
        let Some(child) = &mut self.child else { return Ok(false) };
        let status = child.try_wait().with_context(|| format!("cannot look after {}", self.program.display()))?;
        let Some(status) = status else { return Ok(true) };
        self.exits.push(status);
        self.child = None;
        Ok(false)
    }

    /// Starts it again if it exited, but not if it was stopped on purpose. Returns the statuses of all unexpected exits
    /// since the last call. Fails if it cannot be started.
    pub fn restart_exited(&mut self) -> anyhow::Result<Vec<ExitStatus>> {
        if self.child.is_some() {
            self.start()?;
        }
        Ok(std::mem::take(&mut self.exits))
    }

    /// The process id. Fails if it does not run.
    pub fn pid(&self) -> anyhow::Result<u32> {
        let pid = self.child.as_ref().and_then(Child::id);
        pid.with_context(|| format!("{} does not run", self.program.display()))
    }

    /// The log of a process with [`Log::Piped`], for the caller to read; `None` if it was taken already. A program
    /// blocks when nobody reads its log.
    pub fn take_log(&mut self) -> Option<Lines<BufReader<ChildStderr>>> {
        let log = self.child.as_mut()?.stderr.take()?;
        Some(BufReader::new(log).lines())
    }

    /// Sends a signal; does nothing if it does not run.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let Some(pid) = self.child.as_ref().and_then(Child::id) else { return Ok(()) };
        kill(Pid::from_raw(i32::try_from(pid)?), signal)
            .with_context(|| format!("cannot send {signal} to {}", self.program.display()))
    }

    /// Stops it with SIGSTOP, until [`Process::resume`].
    pub fn freeze(&self) -> anyhow::Result<()> {
        self.signal(Signal::SIGSTOP)
    }

    /// Lets it continue after [`Process::freeze`].
    pub fn resume(&self) -> anyhow::Result<()> {
        self.signal(Signal::SIGCONT)
    }

    /// Sends SIGKILL and waits for the end; does nothing if it does not run.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        self.is_running()?;
        if let Some(mut child) = self.child.take() {
            child.kill().await.with_context(|| format!("cannot kill {}", self.program.display()))?;
        }
        Ok(())
    }

    /// Sends SIGTERM and waits for the end, at most a minute. Fails if it was not started, or does not end in time;
    /// then it is killed.
    pub async fn terminate(&mut self) -> anyhow::Result<ExitStatus> {
        self.signal(Signal::SIGTERM)?;
        let child = self.child.take();
        let mut child = child.with_context(|| format!("{} does not run", self.program.display()))?;
        let status = timeout(STOP_TIMEOUT, child.wait()).await;
        let status = status.with_context(|| format!("{} does not end after SIGTERM", self.program.display()))?;
        Ok(status?)
    }

    /// Runs it once to its end, beside [`Process::start`]; returns its output. Fails if the program does not exist.
    pub async fn run(&self) -> anyhow::Result<Output> {
        self.command().output().await.with_context(|| format!("cannot start {}", self.program.display()))
    }
}
