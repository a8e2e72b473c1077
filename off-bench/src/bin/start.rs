//! Time from `off up` in an empty folder to the first completed order, and resource usage of the idle system.

#![expect(clippy::print_stdout, reason = "prints its results to a terminal")]

use anyhow::Context;
use off_bench::{
    load,
    proc::{memory_of, processor_time_of},
    program::{start_off, stop},
    report::{at_most, median, progress},
};
use off_testkit::Process;
use serde_json::Value;
use std::{net::SocketAddr, path::Path, time::Duration};
use tempfile::TempDir;
use tokio::time::Instant;

const ROUNDS: usize = 3;

/// How long the idle system may settle before it is measured.
const SETTLE_TIME: Duration = Duration::from_secs(10);
/// How long the processor time of the idle system is measured.
const MEASURED_TIME: Duration = Duration::from_secs(10);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut times = Vec::new();
    for round in 1..=ROUNDS {
        progress(&format!("start {round} of {ROUNDS}"));
        let home = TempDir::with_prefix("off-bench-")?;
        let started = Instant::now();
        let system = up(home.path(), &[])?;
        let orders = find_orders(home.path()).await?;
        while !has_completed(orders).await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        times.push(started.elapsed().as_secs_f64());
        stop(system).await?;
    }
    progress("idle");
    let home = TempDir::with_prefix("off-bench-")?;
    let system = up(home.path(), &["--no-generator"])?;
    find_orders(home.path()).await?;
    tokio::time::sleep(SETTLE_TIME).await;
    let before = processor_time_of(system.pid()?)?;
    tokio::time::sleep(MEASURED_TIME).await;
    let idle = (processor_time_of(system.pid()?)? - before) / MEASURED_TIME.as_secs_f64() * 100.0;
    let memory = memory_of(system.pid()?)?;
    stop(system).await?;
    progress("");
    println!("from `off up` to the first completed order: {times:.1?} s");
    at_most("median of these times", median(times), 15.0, "s");
    at_most("memory of the idle system, without Postgres and NATS", memory, 60.0, "MB");
    println!("processor time of the idle system: {idle:.1} % of a core");
    Ok(())
}

fn up(home: &Path, arguments: &[&str]) -> anyhow::Result<Process> {
    let home = home.to_str().context("the folder's name is not UTF-8")?;
    start_off(&[&["--home", home, "up"], arguments].concat(), &[])
}

/// Waits until the orders service is running; returns the address of its API.
async fn find_orders(home: &Path) -> anyhow::Result<SocketAddr> {
    let deadline = Instant::now() + Duration::from_mins(1);
    while Instant::now() < deadline {
        if let Ok(text) = std::fs::read(home.join("running.json")) {
            let running: Value = serde_json::from_slice(&text).unwrap_or_default();
            let services = running["services"].as_array().into_iter().flatten();
            let mut urls =
                services.filter(|service| service["name"] == "orders").filter_map(|service| service["url"].as_str());
            if let Some(url) = urls.next() {
                return Ok(url.trim_start_matches("http://").parse()?);
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    anyhow::bail!("`off up` does not start; see the log in its folder")
}

async fn has_completed(orders: SocketAddr) -> bool {
    let page = load::fetch(orders, "/api/orders?status=completed&limit=1").await;
    let page: Value = page.ok().and_then(|body| serde_json::from_slice(&body).ok()).unwrap_or_default();
    page["orders"].as_array().is_some_and(|orders| !orders.is_empty())
}
