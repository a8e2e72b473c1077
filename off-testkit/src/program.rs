//! A service that runs as a separate process.

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

/// The timeout for the start and for the end of a program.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A running process, with clients of its API and of its health port.
#[derive(Debug)]
pub struct Program {
    pub http: Http,
    pub health: Http,
    child: Child,
}

impl Program {
    /// Starts the program at `path` with these environment variables and waits until it listens.
    pub async fn start(path: &str, settings: &[(&str, &str)]) -> Self {
        Self::start_with(path, &[], settings).await
    }

    /// [`Program::start`] with arguments.
    pub async fn start_with(path: &str, arguments: &[&str], settings: &[(&str, &str)]) -> Self {
        let mut child = command(path, settings)
            .args(arguments)
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the program starts");
        let mut log = BufReader::new(child.stderr.take().expect("stderr is piped")).lines();
        let addresses = timeout(TIMEOUT, async {
            let mut health = None;
            while let Some(line) = log.next_line().await.expect("the log can be read") {
                let entry: Value = serde_json::from_str(&line).unwrap_or_default();
                let message = entry["message"].as_str().unwrap_or_default();
                if let Some((_, address)) = message.split_once(" serves health checks on ") {
                    health = address.split("/readyz").next().map(str::to_owned);
                } else if let Some((_, address)) = message.split_once(" listens on ") {
                    let api = address.split(',').next().expect("the log line contains an address").to_owned();
                    return (api, health.expect("the health port listens first"));
                }
            }
            panic!("the program ended before it listened")
        });
        let (api, health) = addresses.await.expect("the program listens in time");
        // Keeps reading the log; the program would block on a full pipe.
        tokio::spawn(async move { while let Ok(Some(_)) = log.next_line().await {} });
        Self { http: Http::new(api), health: Http::new(health), child }
    }

    /// Stops the process with SIGSTOP. Afterwards it can only be killed.
    pub fn freeze(&self) {
        self.signal(Signal::SIGSTOP);
    }

    fn signal(&self, signal: Signal) {
        let id = self.child.id().expect("the program runs");
        kill(Pid::from_raw(i32::try_from(id).expect("the process id fits")), signal).expect("the signal is sent");
    }

    /// Sends SIGTERM and waits for the end; returns whether the exit code is 0.
    pub async fn terminate(mut self) -> bool {
        self.signal(Signal::SIGTERM);
        timeout(TIMEOUT, self.child.wait()).await.expect("the program ends in time").expect("the exit status").success()
    }

    /// Sends SIGKILL and waits for the end.
    pub async fn kill(mut self) {
        self.child.kill().await.expect("the program is killed");
    }

    /// Runs the program with invalid settings; returns its exit code and its standard error.
    pub async fn refuse(path: &str, settings: &[(&str, &str)]) -> (Option<i32>, String) {
        Self::run(path, &[], settings).await
    }

    /// Runs the program to its end; returns its exit code and its standard error.
    pub async fn run(path: &str, arguments: &[&str], settings: &[(&str, &str)]) -> (Option<i32>, String) {
        let running = command(path, settings).args(arguments).output();
        let output = timeout(TIMEOUT, running).await.expect("the program ends in time").expect("the program runs");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

fn command(path: &str, settings: &[(&str, &str)]) -> Command {
    let mut command = Command::new(path);
    // Tests run in parallel, so a fixed port could be taken.
    command.env("HEALTH_PORT", "0");
    command.env_remove("DATABASE_URL").env_remove("NATS_URL").env_remove("OFF_LOG");
    command.envs(settings.iter().copied()).stdin(Stdio::null());
    command
}
