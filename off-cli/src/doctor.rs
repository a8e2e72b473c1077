//! `off doctor`: reports problems of this installation, and how to fix them.

use crate::{
    home::{Home, Session},
    report::{Status, check, printable_line},
    stalls,
};
use off_kit::{db, print_line};
use off_notifications_service::{MailConfig, check_mail_server};
use off_servers::{find_nats_server, find_postgres};
use serde::Deserialize;
use std::{collections::BTreeMap, env, process::ExitCode, time::Duration};

/// How long the mail server may take to answer a command. Nobody waits as long as RFC 5321 allows.
const MAIL_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The mail server that is checked. Nothing is sent.
    #[command(flatten)]
    mail: MailConfig,
}

/// Prints the results of checks and remembers whether all are healthy.
struct Results {
    all_healthy: bool,
    has_warnings: bool,
}

impl Results {
    fn record(&mut self, name: &str, result: Result<String, String>) {
        let (status, detail) = match result {
            Ok(detail) => (Status::Healthy, detail),
            Err(detail) => (Status::Failed, detail),
        };
        self.print(status, name, &detail);
    }

    fn print(&mut self, status: Status, name: &str, detail: &str) {
        self.all_healthy &= status != Status::Failed;
        self.has_warnings |= status == Status::Warning;
        print_line!("{}", check(status, name, detail));
    }
}

pub(crate) async fn run(home: &Home, options: Options) -> anyhow::Result<ExitCode> {
    let mut results = Results { all_healthy: true, has_warnings: false };
    find_programs(home, &mut results).await;
    check_mail(options.mail, &mut results).await;
    let is_external = is_set("DATABASE_URL") && is_set("NATS_URL");
    let running = if home.lock().is_err() { home.running() } else { None };
    match (&running, is_external) {
        (Some(running), _) => {
            results.record("off up", Ok(format!("process {} in {}", running.pid, home.folder().display())));
        }
        (None, true) => results.record("off up", Ok("external servers, set by DATABASE_URL and NATS_URL".to_owned())),
        (None, false) => {
            results.record("off up", Ok(format!("nothing runs in {}; `off up` starts it", home.folder().display())));
            return Ok(conclude(&results));
        }
    }
    match home.session().await {
        Ok(session) => {
            check_servers(&session, &mut results).await;
            session.end().await?;
        }
        Err(error) => results.record("connections", Err(format!("{error:#}"))),
    }
    if running.is_some() {
        let disk = stalls::check_disk(home.folder())?;
        results.print(disk.status, disk.name, &disk.detail);
    }
    for service in running.iter().flat_map(|running| &running.services) {
        results.record(&service.name, check_readiness(&service.health_url).await);
    }
    Ok(conclude(&results))
}

fn is_set(name: &str) -> bool {
    env::var_os(name).is_some()
}

/// Looks for the programs of the private servers.
async fn find_programs(home: &Home, results: &mut Results) {
    if !is_set("DATABASE_URL") {
        let found = find_postgres().await.map(|(folder, version)| format!("{version} in {}", folder.display()));
        results.record("PostgreSQL", found.map_err(|error| format!("{error:#}")));
    }
    if !is_set("NATS_URL") {
        let found = find_nats_server(home.tools()).await;
        let found = found.map(|(path, version)| format!("{version} at {}", path.display()));
        results.record("nats-server", found.map_err(|error| format!("{error:#}")));
    }
}

/// Connects to the mail server, if there is one.
async fn check_mail(config: MailConfig, results: &mut Results) {
    let url = db::redact(config.smtp_url.as_deref().unwrap_or_default());
    let config = MailConfig { smtp_timeout: config.smtp_timeout.min(MAIL_TIMEOUT), ..config };
    match check_mail_server(&config).await {
        Ok(false) => {}
        Ok(true) => results.record("mail server", Ok(format!("{url} answers"))),
        Err(error) => results.record(
            "mail server",
            Err(printable_line(&format!("{url}: {error:#}; check SMTP_URL, and that the mail server runs"))),
        ),
    }
}

/// Checks both servers, and whether anything in them is stalled.
async fn check_servers(session: &Session, results: &mut Results) {
    let database = db::check(&session.db, off_migrations::newest()).await;
    results.record("database", database.map(|()| "answers, all migrations are applied".to_owned()));
    let broker = session.bus.check().await;
    results.record("broker", broker.map(|()| format!("answers, version {}", session.bus.client.server_info().version)));
    for result in stalls::check(&session.db, &session.bus).await {
        results.print(result.status, result.name, &result.detail);
    }
}

/// Prints the overall result and returns the exit code.
fn conclude(results: &Results) -> ExitCode {
    if results.all_healthy {
        print_line!("{}", if results.has_warnings { "nothing failed: see ! above" } else { "all is well" });
        ExitCode::SUCCESS
    } else {
        print_line!("something is wrong: see ✗ above");
        ExitCode::FAILURE
    }
}

/// The parts of a `/readyz` response that are used.
#[derive(Debug, Deserialize)]
struct Readiness {
    checks: BTreeMap<String, String>,
    warnings: BTreeMap<String, String>,
}

/// Queries `/readyz`; the error lists failed checks and warnings.
async fn check_readiness(address: &str) -> Result<String, String> {
    // An error means that a provider was installed already, which is the same one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().timeout(Duration::from_secs(5)).no_proxy().build();
    let client = client.map_err(|error| error.to_string())?;
    let response = client.get(format!("{address}/readyz")).send().await;
    let response = response.map_err(|error| format!("{address} does not answer: {error}"))?;
    let is_ready = response.status().is_success();
    let readiness = response.json().await;
    let readiness: Readiness = readiness.map_err(|error| format!("{address} sent an invalid response: {error}"))?;
    let failed = readiness.checks.iter().filter(|(_, status)| *status != "ok");
    let problems: Vec<String> = failed
        .chain(&readiness.warnings)
        .map(|(name, problem)| format!("{name}: {}", printable_line(problem)))
        .collect();
    match problems.as_slice() {
        [] if is_ready => Ok(format!("ready, {address}/readyz")),
        problems => Err(problems.join("; ")),
    }
}
