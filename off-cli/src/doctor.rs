//! `off doctor`: what is wrong with this installation, and what to do.

use crate::{
    home::{Home, Running},
    report::check,
};
use off_kit::{
    bus, db,
    servers::{find_nats_server, find_postgres},
};
use std::{env, process::ExitCode, time::Duration};

/// What was found, line by line.
#[derive(Default)]
struct Findings {
    all_well: bool,
}

impl Findings {
    fn note(&mut self, what: &str, found: Result<String, String>) {
        self.all_well &= found.is_ok();
        let (ok, detail) = match found {
            Ok(detail) => (true, detail),
            Err(detail) => (false, detail),
        };
        println!("{}", check(ok, what, &detail));
    }
}

pub(crate) async fn run(home: &Home) -> anyhow::Result<ExitCode> {
    let mut findings = Findings { all_well: true };
    let is_yours = |name| env::var_os(name).is_some();
    if !is_yours("DATABASE_URL") {
        let found = find_postgres().await.map(|(folder, version)| format!("{version} in {}", folder.display()));
        findings.note("PostgreSQL", found.map_err(|error| format!("{error:#}")));
    }
    if !is_yours("NATS_URL") {
        let found = find_nats_server(home.tools()).await;
        let found = found.map(|(path, version)| format!("{version} at {}", path.display()));
        findings.note("nats-server", found.map_err(|error| format!("{error:#}")));
    }
    let is_yours = is_yours("DATABASE_URL") && is_yours("NATS_URL");
    let running = if home.lock().is_err() { home.running() } else { None };
    match (&running, is_yours) {
        (Some(running), _) => {
            findings.note("off up", Ok(format!("process {} in {}", running.pid, home.folder().display())));
        }
        (None, true) => findings.note("off up", Ok("your own servers, by DATABASE_URL and NATS_URL".to_owned())),
        (None, false) => {
            findings.note("off up", Ok(format!("nothing runs in {}; `off up` starts it", home.folder().display())));
            return Ok(verdict(&findings));
        }
    }
    match home.visit().await {
        Ok(visit) => {
            findings.note(
                "database",
                db::check(&visit.db).await.map(|()| "answers, all migrations are applied".to_owned()),
            );
            findings.note(
                "broker",
                visit
                    .bus
                    .check()
                    .await
                    .map(|()| format!("answers, version {}", visit.bus.client.server_info().version)),
            );
            let missing = bus::undeclared(&visit.bus).await;
            let streams = if missing.is_empty() {
                Ok("all streams and consumers are there".to_owned())
            } else {
                Err(format!("run `off migrate`: {}", missing.join("; ")))
            };
            findings.note("streams", streams);
            visit.end().await?;
        }
        Err(error) => findings.note("connections", Err(format!("{error:#}"))),
    }
    for (name, address) in running.iter().flat_map(|Running { services, .. }| services) {
        findings.note(name, ask_readiness(address).await);
    }
    Ok(verdict(&findings))
}

fn verdict(findings: &Findings) -> ExitCode {
    if findings.all_well {
        println!("all is well");
        ExitCode::SUCCESS
    } else {
        println!("something is wrong: see ✗ above");
        ExitCode::FAILURE
    }
}

async fn ask_readiness(address: &str) -> Result<String, String> {
    // Whoever was first chose the same.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().timeout(Duration::from_secs(5)).no_proxy().build();
    let client = client.map_err(|error| error.to_string())?;
    let answer = client.get(format!("{address}/readyz")).send().await;
    let answer = answer.map_err(|error| format!("{address} does not answer: {error}"))?;
    if answer.status().is_success() {
        Ok(format!("ready at {address}"))
    } else {
        Err(format!("{address} is not ready: {}", answer.text().await.unwrap_or_default()))
    }
}
