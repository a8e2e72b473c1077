//! Stops servers that a killed process left behind.

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{path::Path, time::Duration};
use tokio::process::Command;

/// How often to check whether a process has ended, and how many times.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
const POLLS: u32 = 200;

/// Sends `signal` to the process whose id is in the first line of `pid_file`, and waits until it has ended; returns
/// whether it was running. Sends SIGKILL after 20 s, because a frozen process handles no other signal, and two servers must not share their files.
/// Another process may have the same id by now, so the command line must contain `program` and `folder`.
pub(crate) async fn stop(pid_file: &Path, program: &str, folder: &Path, signal: Signal) -> bool {
    let Ok(text) = tokio::fs::read_to_string(pid_file).await else { return false };
    let Some(id) = text.lines().next().and_then(|line| line.trim().parse::<i32>().ok()) else { return false };
    let folder = folder.to_string_lossy();
    for poll in 0..2 * POLLS {
        let command = command_line(id).await;
        if !(command.contains(program) && command.contains(&*folder)) {
            return poll > 0;
        }
        // An error means that the process has ended since the check.
        if poll == 0 {
            let _ = kill(Pid::from_raw(id), signal);
        } else if poll == POLLS {
            let _ = kill(Pid::from_raw(id), Signal::SIGKILL);
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
    true
}

/// The command line of the process `id`; empty if there is none.
async fn command_line(id: i32) -> String {
    let output = if cfg!(target_os = "linux") {
        // Minimal installations have no `ps`.
        tokio::fs::read(format!("/proc/{id}/cmdline")).await.unwrap_or_default()
    } else {
        let output = Command::new("ps").args(["-o", "args=", "-p"]).arg(id.to_string()).output().await;
        output.map_or_else(|_| Vec::new(), |output| output.stdout)
    };
    String::from_utf8_lossy(&output).into_owned()
}
