//! Integration tests that run the command `off` as a child process.

#![expect(clippy::panic, clippy::unwrap_used, reason = "a panic in a helper fails the calling test")]

mod access;
mod architecture;
mod audit;
mod browser;
mod dead;
mod docs;
mod doctor;
mod documents;
mod faults;
mod full_broker;
mod lost_broker;
mod observability;
mod participants;
mod placement;
mod queries;
mod rights;
mod scenario;
mod services;
mod settings;
mod sources;
mod terminal;
mod traces;
mod up;

use off_testkit::{Answer, Http, LENTILS, eventually};
use serde_json::{Value, json};
use std::{
    path::{Path, PathBuf},
    process::{Output, Stdio},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    time::timeout,
};

/// A temporary `OFF_HOME`.
struct Home {
    folder: TempDir,
}

/// A running `off up` and the lines that it prints.
struct Up {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Home {
    fn new() -> Self {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::Builder::new().prefix("off-home-").tempdir().unwrap();
        // Under root, Postgres runs as another user, who needs access to its files.
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        Self { folder }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("off")
    }

    /// `off` with these arguments in this home.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = off(arguments);
        command.env("OFF_HOME", self.path());
        command
    }

    async fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().await.unwrap()
    }

    /// Starts `off up` and waits for its first line with counts.
    async fn up(&self, arguments: &[&str]) -> Up {
        self.up_with(arguments, &[]).await
    }

    /// [`Self::up`] with these environment variables.
    async fn up_with(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Up {
        let mut child = self
            .command(&[&["up"], arguments].concat())
            .envs(variables.iter().copied())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut up = Up { child, lines };
        up.wait_for_line(" orders: ").await;
        up
    }

    /// The `running.json` that `off up` wrote for the other commands.
    fn running(&self) -> Value {
        serde_json::from_str(&std::fs::read_to_string(self.path().join("running.json")).unwrap()).unwrap()
    }

    /// An HTTP client of the running system without a token.
    fn api(&self) -> Http {
        let running = self.running();
        let services = running["services"].as_array().unwrap();
        let gateway = services.iter().find(|entry| entry["name"] == "gateway").unwrap();
        Http::new(gateway["url"].as_str().unwrap().to_owned()).anonymous()
    }

    /// An HTTP client of the running system with the token of an operator, as `off token` prints it.
    async fn operator(&self) -> Http {
        let printed = self.run(&["token", "--client", "operator"]).await;
        assert!(printed.status.success(), "{}", stderr(&printed));
        self.api().with_token(stdout(&printed).trim())
    }

    /// Registers Ada with one device and 1000 EUR; returns the device's id, and an HTTP client with Ada's token.
    async fn register_device(&self) -> (i64, Http) {
        let ada = json!({
            "user": {"first_name": "Ada", "last_name": "Example", "email": "ada@example.org", "password": "correct horse"},
            "devices": [{"mac_address": "02:00:00:00:00:01"}],
        });
        let registered = self.api().post("/api/register", &ada).await;
        let token = registered.body["session"]["access_token"].as_str().unwrap_or_else(|| panic!("{registered:?}"));
        let http = self.api().with_token(token);
        let money = json!({"amount": {"amount": 100_000, "currency": "EUR"}});
        let deposit = http.post_with_key("/api/account/deposits", "first", &money).await;
        assert_eq!(deposit.status, 201, "{deposit:?}");
        (registered.body["devices"][0]["ssd_id"].as_i64().unwrap(), http)
    }
}

/// Places an order of lentils; returns the response with the status 201.
async fn place_order(http: &Http, ssd: i64, quantity: i64) -> Answer {
    let order = json!({"ssd_id": ssd, "barcode": LENTILS, "quantity": quantity});
    // The service may answer 503 while everything is starting.
    let placed = eventually("the order is placed", || async {
        let placed = http.post("/api/orders", &order).await;
        (placed.status != 503).then_some(placed)
    })
    .await;
    assert_eq!(placed.status, 201, "{placed:?}");
    placed
}

impl Up {
    /// Waits for a line that contains `text`.
    async fn wait_for_line(&mut self, text: &str) -> String {
        let search = async {
            while let Some(line) = self.lines.next_line().await.unwrap() {
                if line.contains(text) {
                    return line;
                }
            }
            panic!("off up ended without printing '{text}'");
        };
        timeout(std::time::Duration::from_mins(1), search)
            .await
            .unwrap_or_else(|_| panic!("off up did not print '{text}'"))
    }

    /// Sends SIGINT; returns whether `off up` succeeded, and the rest of its output.
    async fn interrupt(mut self) -> (bool, String) {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.child.id().unwrap()).unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
        let mut rest = String::new();
        while let Some(line) = self.lines.next_line().await.unwrap() {
            rest.push_str(&line);
            rest.push('\n');
        }
        (self.child.wait().await.unwrap().success(), rest)
    }
}

/// `off` with these arguments, without the `DATABASE_URL` and `NATS_URL` of the test's environment.
fn off(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_off"));
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.off/bin");
    let path = format!("{}:{}", tools.display(), std::env::var_os("PATH").unwrap().to_str().unwrap());
    command.args(arguments).env("PATH", path).env_remove("DATABASE_URL").env_remove("NATS_URL");
    command
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
