//! `off doctor`: what is wrong with this installation, and what to do.

use crate::{
    home::Home,
    motion::{self, State},
    report::{check, printable_line},
};
use off_kit::{
    db, print_line,
    servers::{find_nats_server, find_postgres},
};
use serde::Deserialize;
use std::{collections::BTreeMap, env, process::ExitCode, time::Duration};

/// What was found, line by line.
struct Findings {
    all_well: bool,
}

impl Findings {
    fn note(&mut self, what: &str, found: Result<String, String>) {
        let (state, detail) = match found {
            Ok(detail) => (State::Well, detail),
            Err(detail) => (State::Stuck, detail),
        };
        self.print(state, what, &detail);
    }

    fn print(&mut self, state: State, what: &str, detail: &str) {
        self.all_well &= state != State::Stuck;
        print_line!("{}", check(state, what, detail));
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
            for found in motion::look(&visit.db, &visit.bus).await {
                findings.print(found.state, found.what, &found.detail);
            }
            visit.end().await?;
        }
        Err(error) => findings.note("connections", Err(format!("{error:#}"))),
    }
    if running.is_some() {
        let disk = motion::look_at_disk(home.folder())?;
        findings.print(disk.state, disk.what, &disk.detail);
    }
    for service in running.iter().flat_map(|running| &running.services) {
        findings.note(&service.name, ask_readiness(&service.health_url).await);
    }
    Ok(verdict(&findings))
}

fn verdict(findings: &Findings) -> ExitCode {
    if findings.all_well {
        print_line!("all is well");
        ExitCode::SUCCESS
    } else {
        print_line!("something is wrong: see ✗ above");
        ExitCode::FAILURE
    }
}

/// What is read of `/readyz`.
#[derive(Debug, Deserialize)]
struct Readiness {
    needs: BTreeMap<String, String>,
    warnings: BTreeMap<String, String>,
}

async fn ask_readiness(address: &str) -> Result<String, String> {
    // Whoever was first chose the same.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().timeout(Duration::from_secs(5)).no_proxy().build();
    let client = client.map_err(|error| error.to_string())?;
    let answer = client.get(format!("{address}/readyz")).send().await;
    let answer = answer.map_err(|error| format!("{address} does not answer: {error}"))?;
    let is_ready = answer.status().is_success();
    let readiness: Readiness = answer.json().await.map_err(|error| format!("{address} answers strangely: {error}"))?;
    let missing = readiness.needs.iter().filter(|(_, state)| *state != "ok");
    let problems: Vec<String> = missing
        .chain(&readiness.warnings)
        .map(|(name, problem)| format!("{name}: {}", printable_line(problem)))
        .collect();
    match problems.as_slice() {
        [] if is_ready => Ok(format!("ready, {address}/readyz")),
        problems => Err(problems.join("; ")),
    }
}
