//! `POST /api/orders` against a plain handler, `pgbench`, and a handler that only echoes.

#![expect(clippy::print_stdout, reason = "it talks to a person in a terminal")]

use anyhow::Context;
use axum::{Json, Router, extract::State, http::StatusCode, routing::post};
use chrono::{DateTime, Utc};
use off_bench::{
    Outcome, Stage, load,
    report::{at_most, median, progress, ratio, table},
    stage::{PRODUCTS, SSDS, wish},
};
use off_kit::Service;
use off_orders_service::OrdersService;
use serde::{Deserialize, Serialize};
use sqlx::{PgPool, postgres::PgPoolOptions};
use std::{net::SocketAddr, path::Path, time::Duration};
use tokio::{net::TcpListener, process::Command};
use uuid::Uuid;

const ROUNDS: usize = 5;
const LENGTH: Duration = Duration::from_secs(5);
const CONNECTIONS: u64 = 64;

#[derive(Debug, Serialize, Deserialize)]
struct NewOrder {
    ssd_id: i64,
    barcode: String,
    quantity: i32,
}

#[derive(Debug, Serialize)]
struct Order {
    id: Uuid,
    ssd_id: i64,
    product_id: String,
    timestamp: DateTime<Utc>,
    quantity: i32,
    status: &'static str,
}

/// What one would write first: a transaction for each order, with its row and its event. The event is carried to NATS by
/// the relay of the orders service that runs beside it, as off's own events are.
async fn place_plainly(
    State(db): State<PgPool>,
    Json(new): Json<NewOrder>,
) -> Result<(StatusCode, Json<Order>), StatusCode> {
    let order = Order {
        id: Uuid::now_v7(),
        ssd_id: new.ssd_id,
        product_id: new.barcode,
        timestamp: DateTime::from(std::time::SystemTime::now()),
        quantity: new.quantity,
        status: "pending",
    };
    store_plainly(&db, &order).await.map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    Ok((StatusCode::CREATED, Json(order)))
}

async fn store_plainly(db: &PgPool, order: &Order) -> anyhow::Result<()> {
    let mut tx = db.begin().await?;
    sqlx::query(
        "INSERT INTO orders.product_orders (id, ssd_id, barcode, quantity, placed_at) VALUES ($1, $2, $3, $4, $5)",
    )
    .bind(order.id)
    .bind(order.ssd_id)
    .bind(&order.product_id)
    .bind(order.quantity)
    .bind(order.timestamp)
    .execute(&mut *tx)
    .await?;
    sqlx::query(
        "INSERT INTO outbox.messages (source, subject, message_id, body, occurred_at)
         VALUES ($1, 'orders.pending', $2, $3, $4)",
    )
    .bind(OrdersService::NAME)
    .bind(format!("{}:pending", order.id))
    .bind(serde_json::to_string(order)?)
    .bind(order.timestamp)
    .execute(&mut *tx)
    .await?;
    Ok(tx.commit().await?)
}

async fn echo(Json(new): Json<NewOrder>) -> (StatusCode, Json<NewOrder>) {
    (StatusCode::CREATED, Json(new))
}

async fn serve(router: Router) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(axum::serve(listener, router).into_future());
    Ok(address)
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
             INSERT INTO orders.product_orders (id, ssd_id, barcode, quantity, placed_at)
             VALUES (gen_random_uuid(), :number, lpad(:number::text, 13, '2000000000000'), 1, now());\n"
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
    let pool = PgPoolOptions::new().max_connections(32).connect(&stage.postgres.url).await?;
    let off = stage.start_orders().await?;
    let plain = serve(Router::new().route("/api/orders", post(place_plainly)).with_state(pool)).await?;
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
    ratio("throughput against the plain handler", paired(&offs, rates(&plains), Outcome::rate), 3.0);
    let p99 = |outcome: &Outcome| outcome.ms(0.99);
    at_most("p99 against the plain handler", paired(&offs, plains.iter().map(p99).collect(), p99), 1.0, "×");
    ratio("throughput against pgbench", paired(&offs, inserts, Outcome::rate), 2.0);
    ratio("throughput against echoing", paired(&offs, rates(&echoes), Outcome::rate), 0.4);
    let p50 = |outcome: &Outcome| outcome.ms(0.5);
    at_most(
        "p50 at one connection against the plain handler",
        paired(&lone_offs, lone_plains.iter().map(p50).collect(), p50),
        1.1,
        "×",
    );
    off.stop().await?;
    stage.end().await
}
