//! `POST /api/orders` against a plain handler, `pgbench`, and a handler that only echoes.

#![expect(clippy::print_stdout, reason = "it talks to a person in a terminal")]

use anyhow::Context;
use axum::{Json, Router, http::StatusCode, routing::post};
use off_bench::{
    Outcome, Stage, load, plain,
    report::{at_most, median, progress, ratio, table},
    stage::{PRODUCTS, SSDS, serve, wish},
};
use serde::{Deserialize, Serialize};
use std::{net::SocketAddr, path::Path, time::Duration};
use tokio::process::Command;

const ROUNDS: usize = 5;
const LENGTH: Duration = Duration::from_secs(5);
const CONNECTIONS: u64 = 64;

#[derive(Debug, Serialize, Deserialize)]
struct NewOrder {
    ssd_id: i64,
    barcode: String,
    quantity: i32,
}

async fn echo(Json(new): Json<NewOrder>) -> (StatusCode, Json<NewOrder>) {
    (StatusCode::CREATED, Json(new))
}

async fn measure(address: SocketAddr, connections: u64) -> anyhow::Result<Outcome> {
    let outcome = load(address, connections, LENGTH, |number| load::post("/api/orders", wish(number)?)).await?;
    outcome.expect_only(&[201])?;
    Ok(outcome)
}

/// Transactions a second of `pgbench` with one order row each, 64 clients, prepared.
async fn pgbench(stage: &Stage) -> anyhow::Result<f64> {
    let script = tempfile::NamedTempFile::new()?;
    std::fs::write(
        script.path(),
        format!(
            "\\set number random(1, {SSDS})\n\
             INSERT INTO {} (id, ssd_id, barcode, quantity, placed_at)
             VALUES (gen_random_uuid(), :number, lpad(:number::text, 13, '2000000000000'), 1, now());\n",
            plain::TABLE
        ),
    )?;
    let program = stage.programs.join("pgbench");
    let program = if program.is_file() { program.as_path() } else { Path::new("pgbench") };
    let output = Command::new(program)
        .args(["-n", "-M", "prepared", "-c", "64", "-j", "2", "-T"])
        .arg(LENGTH.as_secs().to_string())
        .arg("-f")
        .arg(script.path())
        .arg(&stage.postgres.url)
        .output()
        .await
        .context("pgbench does not run; it comes with PostgreSQL's server package")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().find(|line| line.starts_with("tps = "));
    let rate = line.and_then(|line| line.split(' ').nth(2)?.parse().ok());
    rate.with_context(|| format!("pgbench said\n{text}{}", String::from_utf8_lossy(&output.stderr)))
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let stage = Stage::new().await?;
    stage.settle(PRODUCTS, SSDS).await?;
    let off = stage.start_orders().await?;
    let plain = plain::start(&stage).await?;
    let echo = serve(Router::new().route("/api/orders", post(echo))).await?;

    // Postgres keeps what it needs for its log once it has made it.
    progress("warming up");
    for address in [off.address, plain, off.address] {
        measure(address, CONNECTIONS).await?;
    }
    let (mut offs, mut plains, mut echoes, mut inserts) = (vec![], vec![], vec![], vec![]);
    let (mut lone_offs, mut lone_plains) = (vec![], vec![]);
    for round in 1..=ROUNDS {
        progress(&format!("round {round} of {ROUNDS}"));
        stage.forget_orders().await?;
        offs.push(measure(off.address, CONNECTIONS).await?);
        stage.forget_orders().await?;
        plains.push(measure(plain, CONNECTIONS).await?);
        stage.forget_orders().await?;
        inserts.push(pgbench(&stage).await?);
        echoes.push(measure(echo, CONNECTIONS).await?);
        stage.forget_orders().await?;
        lone_offs.push(measure(off.address, 1).await?);
        stage.forget_orders().await?;
        lone_plains.push(measure(plain, 1).await?);
    }
    progress("");
    let mut table = table(&["orders/s", "lowest", "median", "highest", "p50 ms", "p99 ms"]);
    let mut row = |name: &str, outcomes: &[Outcome]| {
        let rates = || outcomes.iter().map(Outcome::rate);
        table.add_row([
            name.to_owned(),
            format!("{:.0}", rates().fold(f64::INFINITY, f64::min)),
            format!("{:.0}", median(rates())),
            format!("{:.0}", rates().fold(0.0, f64::max)),
            format!("{:.2}", median(outcomes.iter().map(|outcome| outcome.ms(0.5)))),
            format!("{:.2}", median(outcomes.iter().map(|outcome| outcome.ms(0.99)))),
        ]);
    };
    row("off, 64 connections", &offs);
    row("plain handler, 64 connections", &plains);
    row("echo, 64 connections", &echoes);
    row("off, 1 connection", &lone_offs);
    row("plain handler, 1 connection", &lone_plains);
    println!("{table}");
    println!("pgbench, 64 clients: {:.0} transactions/s (median)\n", median(inserts.iter().copied()));

    let paired = |ours: &[Outcome], others: Vec<f64>, figure: fn(&Outcome) -> f64| {
        median(ours.iter().zip(others).map(|(ours, other)| figure(ours) / other))
    };
    let rates = |outcomes: &[Outcome]| outcomes.iter().map(Outcome::rate).collect::<Vec<_>>();
    ratio("throughput against the plain handler", paired(&offs, rates(&plains), Outcome::rate), 4.0);
    let p99 = |outcome: &Outcome| outcome.ms(0.99);
    at_most("p99 against the plain handler", paired(&offs, plains.iter().map(p99).collect(), p99), 1.0, "×");
    ratio("throughput against pgbench", paired(&offs, inserts, Outcome::rate), 1.5);
    ratio("throughput against echoing", paired(&offs, rates(&echoes), Outcome::rate), 0.3);
    let p50 = |outcome: &Outcome| outcome.ms(0.5);
    at_most(
        "p50 at one connection against the plain handler",
        paired(&lone_offs, lone_plains.iter().map(p50).collect(), p50),
        1.0,
        "×",
    );
    off.stop().await?;
    stage.end().await
}
