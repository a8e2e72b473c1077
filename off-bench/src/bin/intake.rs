//! `POST /api/orders` compared with a plain handler, `pgbench`, and a handler that echoes the request.

#![expect(clippy::print_stdout, reason = "prints its results to a terminal")]

use anyhow::Context;
use axum::{Json, Router, http::StatusCode, routing::post};
use off_bench::{
    Outcome, Stage, load, plain,
    report::{at_most, median, progress, ratio, table},
    stage::{DEVICES, PRODUCTS, order_body, serve},
    store,
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
    let outcome = load(address, connections, LENGTH, |number| load::post("/api/orders", order_body(number)?)).await?;
    outcome.expect_only(&[201])?;
    Ok(outcome)
}

/// Transactions per second of `pgbench`, each with one order row; 64 clients, prepared statements.
async fn pgbench(stage: &Stage) -> anyhow::Result<f64> {
    let script = tempfile::NamedTempFile::new()?;
    std::fs::write(
        script.path(),
        format!(
            "\\set number random(1, {DEVICES})\n\
             INSERT INTO {} (id, ssd_id, barcode, quantity, placed_at)
             VALUES (gen_random_uuid(), :number, lpad(:number::text, 13, '2000000000000'), 1, now());\n",
            store::PLAIN_ORDERS
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
        .context("cannot run pgbench; it is part of PostgreSQL's server package")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().find(|line| line.starts_with("tps = "));
    let rate = line.and_then(|line| line.split(' ').nth(2)?.parse().ok());
    rate.with_context(|| format!("unexpected output of pgbench:\n{text}{}", String::from_utf8_lossy(&output.stderr)))
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let stage = Stage::new().await?;
    stage.seed_data(PRODUCTS, DEVICES).await?;
    let off = stage.start_orders().await?;
    let plain = plain::start(&stage).await?;
    let echo = serve(Router::new().route("/api/orders", post(echo))).await?;

    // Postgres creates WAL files under the first load and reuses them later.
    progress("warming up");
    for address in [off.addresses().api, plain, off.addresses().api] {
        measure(address, CONNECTIONS).await?;
    }
    let mut rounds = Rounds::default();
    for round in 1..=ROUNDS {
        progress(&format!("round {round} of {ROUNDS}"));
        rounds.measure(&stage, off.addresses().api, plain, echo).await?;
    }
    progress("");
    rounds.print();
    off.stop().await?;
    stage.end().await
}

/// The responses of all rounds.
#[derive(Debug, Default)]
struct Rounds {
    off: Vec<Outcome>,
    plain: Vec<Outcome>,
    echo: Vec<Outcome>,
    /// Transactions a second.
    pgbench: Vec<f64>,
    off_single: Vec<Outcome>,
    plain_single: Vec<Outcome>,
}

impl Rounds {
    /// Measures one more round, in which each handler begins with empty tables.
    async fn measure(
        &mut self,
        stage: &Stage,
        off: SocketAddr,
        plain: SocketAddr,
        echo: SocketAddr,
    ) -> anyhow::Result<()> {
        stage.delete_orders().await?;
        self.off.push(measure(off, CONNECTIONS).await?);
        stage.delete_orders().await?;
        self.plain.push(measure(plain, CONNECTIONS).await?);
        stage.delete_orders().await?;
        self.pgbench.push(pgbench(stage).await?);
        self.echo.push(measure(echo, CONNECTIONS).await?);
        stage.delete_orders().await?;
        self.off_single.push(measure(off, 1).await?);
        stage.delete_orders().await?;
        self.plain_single.push(measure(plain, 1).await?);
        Ok(())
    }

    fn print(&self) {
        let mut table = table(&["orders/s", "lowest", "median", "highest", "p50 ms", "p99 ms"]);
        for (name, outcomes) in [
            ("off, 64 connections", &self.off),
            ("plain handler, 64 connections", &self.plain),
            ("echo, 64 connections", &self.echo),
            ("off, 1 connection", &self.off_single),
            ("plain handler, 1 connection", &self.plain_single),
        ] {
            let rates = || outcomes.iter().map(Outcome::rate);
            table.add_row([
                name.to_owned(),
                format!("{:.0}", rates().fold(f64::INFINITY, f64::min)),
                format!("{:.0}", median(rates())),
                format!("{:.0}", rates().fold(0.0, f64::max)),
                format!("{:.2}", median(outcomes.iter().map(|outcome| outcome.ms(0.5)))),
                format!("{:.2}", median(outcomes.iter().map(|outcome| outcome.ms(0.99)))),
            ]);
        }
        println!("{table}");
        println!("pgbench, 64 clients: {:.0} transactions/s (median)\n", median(self.pgbench.iter().copied()));
        self.print_targets();
    }

    /// Prints the targets, which compare the outcomes of the same round.
    fn print_targets(&self) {
        let paired = |ours: &[Outcome], others: Vec<f64>, figure: fn(&Outcome) -> f64| {
            median(ours.iter().zip(others).map(|(ours, other)| figure(ours) / other))
        };
        let all = |outcomes: &[Outcome], figure: fn(&Outcome) -> f64| outcomes.iter().map(figure).collect::<Vec<_>>();
        let (p50, p99) = (|outcome: &Outcome| outcome.ms(0.5), |outcome: &Outcome| outcome.ms(0.99));
        let against_plain = paired(&self.off, all(&self.plain, Outcome::rate), Outcome::rate);
        ratio("throughput against the plain handler", against_plain, 4.0);
        at_most("p99 against the plain handler", paired(&self.off, all(&self.plain, p99), p99), 1.0, "×");
        ratio("throughput against pgbench", paired(&self.off, self.pgbench.clone(), Outcome::rate), 1.5);
        let against_echo = paired(&self.off, all(&self.echo, Outcome::rate), Outcome::rate);
        ratio("throughput against echoing", against_echo, 0.3);
        let single = paired(&self.off_single, all(&self.plain_single, p50), p50);
        at_most("p50 at one connection against the plain handler", single, 1.0, "×");
    }
}
