//! A service that runs as a separate process.

use crate::{Http, Log, Process, tokens};
use serde_json::Value;
use std::time::Duration;
use tokio::time::timeout;

/// The timeout for the start and for the end of a program.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A running process, with clients of its API and of its health port.
#[derive(Debug)]
pub struct Program {
    /// A client of its API.
    pub http: Http,
    /// A client of its health port.
    pub health: Http,
    process: Process,
}

impl Program {
    /// Starts the program at `path` with these environment variables and waits until it listens.
    pub async fn start(path: &str, settings: &[(&str, &str)]) -> Self {
        Self::start_with(path, &[], settings).await
    }

    /// [`Program::start`] with arguments.
    pub async fn start_with(path: &str, arguments: &[&str], settings: &[(&str, &str)]) -> Self {
        let mut process = process(path, settings).arguments(arguments).log(Log::Piped);
        process.start().expect("the program starts");
        let mut log = process.take_log().expect("the log is piped");
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
        Self { http: Http::new(api), health: Http::new(health), process }
    }

    /// Stops the process with SIGSTOP. Afterwards it can only be killed.
    pub fn freeze(&self) {
        self.process.freeze().expect("the signal is sent");
    }

    /// Sends SIGTERM and waits for the end; returns whether the exit code is 0.
    pub async fn terminate(mut self) -> bool {
        let ended = timeout(TIMEOUT, self.process.terminate()).await.expect("the program ends in time");
        ended.expect("the exit status").success()
    }

    /// Sends SIGKILL and waits for the end.
    pub async fn kill(mut self) {
        self.process.kill().await.expect("the program is killed");
    }

    /// Runs the program with invalid settings; returns its exit code and its standard error.
    pub async fn refuse(path: &str, settings: &[(&str, &str)]) -> (Option<i32>, String) {
        Self::run(path, &[], settings).await
    }

    /// Runs the program to its end; returns its exit code and its standard error.
    pub async fn run(path: &str, arguments: &[&str], settings: &[(&str, &str)]) -> (Option<i32>, String) {
        let process = process(path, settings).arguments(arguments);
        let output =
            timeout(TIMEOUT, process.run()).await.expect("the program ends in time").expect("the program runs");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

fn process(path: &str, settings: &[(&str, &str)]) -> Process {
    // The file takes precedence over the URL.
    let has_keys = settings.iter().any(|(name, _)| *name == "AUTH_JWKS_URL");
    let keys = (!has_keys).then(|| ("AUTH_KEYS_FILE", tokens::keys_file()));
    Process::new(path)
        // Tests run in parallel, so a fixed port could be taken.
        .environment([("HEALTH_PORT", "0")])
        .environment(keys)
        .without_environment(&["DATABASE_URL", "NATS_URL", "OFF_LOG"])
        .environment(settings.iter().copied())
}
