//! `off` as a separate process that can be measured and killed, and commands that run to their end.

use crate::proc::highest_memory_of;
use anyhow::{Context, ensure};
use off_testkit::{Process, tokens};
use std::{
    path::PathBuf,
    process::{Output, Stdio},
    time::Duration,
};
use tokio::{process::Command, time::Instant};

/// The path of a program beside this one. Fails if it was not built; `hint` says how.
fn find(name: &str, hint: &str) -> anyhow::Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name(name);
    ensure!(path.is_file(), "{} does not exist: {hint}", path.display());
    Ok(path)
}

/// The path of `off`. Fails if it was not built.
pub fn find_off() -> anyhow::Result<PathBuf> {
    find("off", "./run doctor builds it")
}

/// The path of `off-etl`. Fails if it was not built.
pub fn find_importer() -> anyhow::Result<PathBuf> {
    find("off-etl", "cargo build --release -p off-etl builds it")
}

/// `off` with these arguments and environment variables, not started yet. Fails if it was not built.
pub fn off(arguments: &[&str], settings: &[(&str, &str)]) -> anyhow::Result<Process> {
    Ok(configure(Process::new(find_off()?).arguments(arguments), settings))
}

/// Logs only errors, and accepts the tokens of this process.
fn configure(process: Process, settings: &[(&str, &str)]) -> Process {
    process
        .environment(settings.iter().copied())
        .environment([("OFF_LOG", "error")])
        .environment([("AUTH_KEYS_FILE", tokens::keys_file())])
}

/// Starts `off` with these arguments and environment variables. Fails if it was not built.
pub fn start_off(arguments: &[&str], settings: &[(&str, &str)]) -> anyhow::Result<Process> {
    let mut process = off(arguments, settings)?;
    process.start()?;
    Ok(process)
}

/// Starts this benchmark once more with these arguments and environment variables, for a service of its own.
pub fn start_self(arguments: &[&str], settings: &[(&str, &str)]) -> anyhow::Result<Process> {
    let mut process = configure(Process::new(std::env::current_exe()?).arguments(arguments), settings);
    process.start()?;
    Ok(process)
}

/// Sends SIGTERM and waits for the end. Fails if the exit code is not 0.
pub async fn stop(mut process: Process) -> anyhow::Result<()> {
    let status = process.terminate().await?;
    ensure!(status.success(), "the process exited with {status}");
    Ok(())
}

/// A command that ran to its end.
#[derive(Debug)]
pub struct Finished {
    /// How long it ran, in seconds.
    pub seconds: f64,
    /// Its peak memory, in megabytes.
    pub memory: f64,
    /// Its exit status, and its standard output if it was piped.
    pub output: Output,
}

/// Runs a command to its end, and reads its peak memory every 50 milliseconds. Fails if it cannot be started.
pub async fn run(command: &mut Command) -> anyhow::Result<Finished> {
    let started = Instant::now();
    let child = command.stdin(Stdio::null()).kill_on_drop(true).spawn();
    let child = child.with_context(|| format!("cannot start {command:?}"))?;
    let id = child.id().context("the program has exited")?;
    let mut ended = Box::pin(child.wait_with_output());
    let mut memory: f64 = 0.0;
    let output = loop {
        tokio::select! {
            output = &mut ended => break output?,
            () = tokio::time::sleep(Duration::from_millis(50)) => {
                // The program may just have exited.
                memory = memory.max(highest_memory_of(id).unwrap_or(0.0));
            }
        }
    };
    Ok(Finished { seconds: started.elapsed().as_secs_f64(), memory, output })
}
