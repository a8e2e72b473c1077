//! `off down`: stops the system that runs in the folder, in order.

use crate::home::Home;
use anyhow::{Context, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use off_kit::print_line;
use std::{process::ExitCode, time::Duration};
use tokio::time::{Instant, sleep};

/// How long it may take: each service and each server has its own limit, all within this.
const STOP_WITHIN: Duration = Duration::from_mins(2);

pub(crate) async fn run(home: &Home) -> anyhow::Result<ExitCode> {
    let folder = home.folder().display();
    if !home.is_taken() {
        print_line!("nothing runs in {folder}");
        return Ok(ExitCode::SUCCESS);
    }
    let running = home.running();
    let running =
        running.with_context(|| format!("off is just starting in {folder}, or another command is at work there"))?;
    let process = Pid::from_raw(i32::try_from(running.pid)?);
    kill(process, Signal::SIGTERM).with_context(|| format!("cannot ask process {process} to stop"))?;
    print_line!("asked process {process} to stop");
    let deadline = Instant::now() + STOP_WITHIN;
    while home.is_taken() {
        ensure!(Instant::now() < deadline, "process {process} has not stopped within {} s", STOP_WITHIN.as_secs());
        sleep(Duration::from_millis(100)).await;
    }
    print_line!("off has stopped in {folder}");
    Ok(ExitCode::SUCCESS)
}
