//! A service that runs as a program of its own.

use crate::Http;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use std::{process::Stdio, time::Duration};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    time::timeout,
};

/// How long a program may take to start, and to stop.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running service, a client of its API, and one of its health port.
#[derive(Debug)]
pub struct Program {
    pub http: Http,
    pub health: Http,
    child: Child,
}

impl Program {
    /// Starts the program at `path` with these settings and waits until it listens.
    pub async fn start(path: &str, settings: &[(&str, &str)]) -> Self {
        Self::start_with(path, &[], settings).await
    }

    /// The same, with arguments.
    pub async fn start_with(path: &str, arguments: &[&str], settings: &[(&str, &str)]) -> Self {
        let mut child = command(path, settings)
            .args(arguments)
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("it starts");
        let mut log = BufReader::new(child.stderr.take().expect("its log")).lines();
        let addresses = timeout(PATIENCE, async {
            let mut health = None;
            while let Some(line) = log.next_line().await.expect("a line of its log") {
                let entry: Value = serde_json::from_str(&line).unwrap_or_default();
                let said = entry["message"].as_str().unwrap_or_default();
                if let Some((_, address)) = said.split_once(" tells of its health on ") {
                    health = address.split("/readyz").next().map(str::to_owned);
                } else if let Some((_, address)) = said.split_once(" answers on ") {
                    let api = address.split(',').next().expect("an address").to_owned();
                    return (api, health.expect("its health port listens first"));
                }
            }
            panic!("it ended before it listened")
        });
        let (api, health) = addresses.await.expect("it listens in time");
        // Its log has to be read on, or it would block.
        tokio::spawn(async move { while let Ok(Some(_)) = log.next_line().await {} });
        Self { http: Http::new(api), health: Http::new(health), child }
    }

    /// Stops it in the middle of whatever it does, without its noticing; it can only be killed then.
    pub fn freeze(&self) {
        self.signal(Signal::SIGSTOP);
    }

    fn signal(&self, signal: Signal) {
        let id = self.child.id().expect("it runs");
        kill(Pid::from_raw(i32::try_from(id).expect("a process id")), signal).expect("the signal is sent");
    }

    /// Asks it to stop, as the system does; whether it ended well.
    pub async fn terminate(mut self) -> bool {
        self.signal(Signal::SIGTERM);
        timeout(PATIENCE, self.child.wait()).await.expect("it ends in time").expect("it ended").success()
    }

    /// Kills it on the spot.
    pub async fn kill(mut self) {
        self.child.kill().await.expect("it dies");
    }

    /// Runs the program with settings it cannot start with: its exit code, and what it said on standard error.
    pub async fn refuse(path: &str, settings: &[(&str, &str)]) -> (Option<i32>, String) {
        Self::run(path, &[], settings).await
    }

    /// Runs a command of the program to its end: its exit code, and what it said on standard error.
    pub async fn run(path: &str, arguments: &[&str], settings: &[(&str, &str)]) -> (Option<i32>, String) {
        let running = command(path, settings).args(arguments).output();
        let output = timeout(PATIENCE, running).await.expect("it ends").expect("it runs");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

fn command(path: &str, settings: &[(&str, &str)]) -> Command {
    let mut command = Command::new(path);
    // Many run at a time.
    command.env("HEALTH_PORT", "0");
    command.env_remove("DATABASE_URL").env_remove("NATS_URL").env_remove("OFF_LOG");
    command.envs(settings.iter().copied()).stdin(Stdio::null());
    command
}
