//! `off status`: whether the system runs in the folder, and whether each service is ready.

use crate::{
    home::Home,
    motion::State,
    report::{check, printable_line},
};
use anyhow::Context;
use futures::future::join_all;
use off_kit::{http, print_line};
use std::{net::SocketAddr, process::ExitCode};

/// The exit code where nothing runs.
const NOT_RUNNING: u8 = 3;

pub(crate) async fn run(home: &Home) -> anyhow::Result<ExitCode> {
    let folder = home.folder().display();
    let running = home.is_taken().then(|| home.running()).flatten();
    let Some(running) = running else {
        print_line!("nothing runs in {folder}; `off up` starts it");
        return Ok(ExitCode::from(NOT_RUNNING));
    };
    print_line!("off runs in {folder}, process {}", running.pid);
    let asked = join_all(running.services.iter().map(|service| is_ready(&service.health_url))).await;
    let all_ready = asked.iter().all(Result::is_ok);
    for (service, ready) in running.services.iter().zip(asked) {
        let (state, detail) = match ready {
            Ok(()) => (State::Well, format!("ready, documented at {}/docs", service.url)),
            Err(reason) => (State::Stuck, printable_line(&format!("{reason:#}"))),
        };
        print_line!("{}", check(state, &service.name, &detail));
    }
    Ok(if all_ready { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn is_ready(health_url: &str) -> anyhow::Result<()> {
    let address = health_url.strip_prefix("http://").and_then(|address| address.parse::<SocketAddr>().ok());
    let address = address.with_context(|| format!("{health_url} is no address"))?;
    let config = http::Config { http_service_host: address.ip(), http_service_port: 0, health_port: address.port() };
    http::ask_whether_ready(&config).await.map(drop)
}
