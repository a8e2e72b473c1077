//! `off down`: shuts down the system that runs in the folder gracefully, and what a killed one left behind.

use crate::home::Home;
use anyhow::{Context, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use off_kit::print_line;
use off_servers::{Nats, Postgres};
use std::{process::ExitCode, time::Duration};
use tokio::time::{Instant, sleep};

/// Timeout for the whole shutdown; each service and each server has its own, shorter limit.
const STOP_TIMEOUT: Duration = Duration::from_mins(2);

/// Stops the servers of a system that was killed; returns whether there were some.
async fn stop_leftovers(home: &Home) -> anyhow::Result<bool> {
    if !home.folder().exists() {
        return Ok(false);
    }
    // No other command starts them meanwhile.
    let _lock = home.lock()?;
    let nats = Nats::stop_leftover(&home.folder().join("nats")).await;
    Ok(Postgres::stop_leftover(&home.folder().join("postgres")).await || nats)
}

pub(crate) async fn run(home: &Home) -> anyhow::Result<ExitCode> {
    let folder = home.folder().display();
    if !home.is_locked() {
        if stop_leftovers(home).await? {
            print_line!("stopped the servers of a system that was killed in {folder}");
        } else {
            print_line!("nothing runs in {folder}");
        }
        return Ok(ExitCode::SUCCESS);
    }
    let running = home.running();
    let running =
        running.with_context(|| format!("off is starting in {folder}, or another command is running there"))?;
    let process = Pid::from_raw(i32::try_from(running.pid)?);
    kill(process, Signal::SIGTERM).with_context(|| format!("cannot ask process {process} to stop"))?;
    print_line!("asked process {process} to stop");
    let deadline = Instant::now() + STOP_TIMEOUT;
    while home.is_locked() {
        ensure!(Instant::now() < deadline, "process {process} has not stopped within {} s", STOP_TIMEOUT.as_secs());
        sleep(Duration::from_millis(100)).await;
    }
    print_line!("off has stopped in {folder}");
    Ok(ExitCode::SUCCESS)
}
