//! The generator as a separate process: its memory with fifty thousand households, which have a hundred thousand
//! devices, and how many orders per second it can offer to stand-ins that respond at once, compared with what the real
//! services accept from it.

#![expect(clippy::print_stdout, reason = "prints its results to a terminal")]

use anyhow::Context;
use axum::{
    Json, Router,
    http::StatusCode,
    routing::{get, post},
};
use futures::StreamExt;
use off_bench::{
    Stage, load,
    proc::memory_of,
    program::start_off,
    report::{at_most, median, progress, ratio},
    stage::{PRODUCTS, Ports, serve, wait_until_ready},
};
use off_events::ORDERS_RANDOM;
use off_kit::Bus;
use off_testkit::{Process, tokens};
use serde_json::{Value, json};
use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};
use tempfile::NamedTempFile;
use tokio::{net::TcpListener, task::JoinHandle, time::Instant};

/// Households in the measurement of memory.
const MANY_HOUSEHOLDS: &str = "50000";

/// Households in the measurements of orders.
const HOUSEHOLDS: &str = "20";
const ROUNDS: usize = 3;
const LENGTH: Duration = Duration::from_secs(8);

/// Orders per second; more than the services and the stand-ins can accept.
const RATE: &str = "20000";

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let stage = Stage::new().await?;
    stage.seed_data(PRODUCTS, 0).await?;
    let (mut offered, mut accepted) = (vec![], vec![]);
    progress("registering fifty thousand households");
    let memory = measure_memory(&stage).await?;
    for round in 1..=ROUNDS {
        progress(&format!("round {round} of {ROUNDS}"));
        offered.push(offer_to_stand_ins(&stage).await?);
        let (users, orders) = (stage.start_users().await?, stage.start_orders().await?);
        accepted.push(measure_orders(&stage, users.addresses().api, orders.addresses().api).await?);
        users.stop().await?;
        orders.stop().await?;
        stage.delete_orders().await?;
    }
    progress("");
    println!(
        "{:.0} orders per second were offered to stand-ins that respond at once; the real services accepted {:.0}\n",
        median(offered.iter().copied()),
        median(accepted.iter().copied())
    );
    at_most("memory with 50,000 households", memory, 200.0, "MB");
    ratio(
        "orders offered to stand-ins against orders accepted",
        median(offered.iter().zip(&accepted).map(|(offered, accepted)| offered / accepted)),
        2.0,
    );
    stage.end().await
}

/// Starts the generator; returns it and its health address.
async fn start(
    stage: &Stage,
    users: SocketAddr,
    orders: SocketAddr,
    rate: &str,
    households: &str,
) -> anyhow::Result<(Process, SocketAddr)> {
    let ports = Ports::free()?;
    let token_url = format!("http://{}/oauth/token", serve(token_issuer()).await?);
    let secret = NamedTempFile::new()?;
    std::fs::write(secret.path(), "a secret that nobody checks")?;
    let secret_file = secret.path().to_string_lossy();
    let ([api, health], users, orders) = (ports.settings(), format!("http://{users}"), format!("http://{orders}"));
    let settings = [
        ("NATS_URL", &*stage.nats.url),
        api,
        health,
        ("USERS_URL", &users),
        ("ORDERS_URL", &orders),
        ("AUTH_TOKEN_URL", &token_url),
        ("CLIENT_SECRET_FILE", &secret_file),
        ("GENERATOR_RATE", rate),
        ("GENERATOR_HOUSEHOLDS", households),
        ("GENERATOR_REGISTRATION_WEIGHT", "0"),
        ("GENERATOR_ORDER_WEIGHT", "1"),
        ("GENERATOR_CONSUMPTION_WEIGHT", "0"),
        // The orders are only placed, and no billing service runs.
        ("GENERATOR_INCOME", "0"),
    ];
    let program = start_off(&["serve", "generator"], &settings)?;
    wait_until_ready(ports.health).await?;
    Ok((program, ports.health))
}

/// Stand-in for the auth service.
fn token_issuer() -> Router {
    let issued = || async { Json(json!({"access_token": tokens::test_client(), "expires_in": 600})) };
    Router::new().route("/oauth/token", post(issued))
}

/// Memory of a generator that has registered many households and simulates them at its default rate, in megabytes.
async fn measure_memory(stage: &Stage) -> anyhow::Result<f64> {
    let stand_in = StandIn::start(stage).await?;
    let (mut generator, address) = start(stage, stand_in.address, stand_in.address, "1", MANY_HOUSEHOLDS).await?;
    let deadline = Instant::now() + Duration::from_mins(3);
    let wanted = MANY_HOUSEHOLDS.parse()?;
    while accepted(address, "user-registration").await? < wanted {
        (Instant::now() < deadline).then_some(()).context("the households are not registered in time")?;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let memory = memory_of(generator.pid()?)?;
    generator.kill().await?;
    stand_in.stop();
    Ok(memory)
}

/// Orders per second that the services accept from the generator.
async fn measure_orders(stage: &Stage, users: SocketAddr, orders: SocketAddr) -> anyhow::Result<f64> {
    let (mut generator, address) = start(stage, users, orders, RATE, HOUSEHOLDS).await?;
    let rate = count_orders(address).await;
    generator.kill().await?;
    rate
}

/// Orders per second that a stand-in for both services accepts from the generator.
async fn offer_to_stand_ins(stage: &Stage) -> anyhow::Result<f64> {
    let stand_in = StandIn::start(stage).await?;
    let rate = measure_orders(stage, stand_in.address, stand_in.address).await;
    stand_in.stop();
    rate
}

/// Stand-in for both services that responds at once and stores nothing.
struct StandIn {
    address: SocketAddr,
    serving: JoinHandle<std::io::Result<()>>,
    responding: JoinHandle<anyhow::Result<()>>,
}

impl StandIn {
    async fn start(stage: &Stage) -> anyhow::Result<Self> {
        let next = Arc::new(AtomicI64::new(1));
        let register = move |Json(household): Json<Value>| {
            let count = household["devices"].as_array().map_or(0, Vec::len);
            let devices: Vec<Value> =
                (0..count).map(|_| json!({"ssd_id": next.fetch_add(1, Ordering::Relaxed)})).collect();
            async move { (StatusCode::CREATED, Json(json!({"user_id": 1, "devices": devices}))) }
        };
        let api = Router::new()
            .route("/api/devices", get(|| async { Json(json!({"devices": []})) }))
            .route("/api/register", post(register))
            .route("/api/orders", post(|Json(body): Json<Value>| async { (StatusCode::CREATED, Json(body)) }));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let serving = tokio::spawn(axum::serve(listener, api).into_future());
        Ok(Self { address, serving, responding: tokio::spawn(respond(stage.bus.clone())) })
    }

    fn stop(self) {
        self.serving.abort();
        self.responding.abort();
    }
}

/// Responds to each `orders.random` with the same product.
async fn respond(bus: Bus) -> anyhow::Result<()> {
    let mut requests = bus.client.subscribe(ORDERS_RANDOM).await?;
    while let Some(request) = requests.next().await {
        let inbox = request.reply.context("a request has no reply subject")?;
        bus.client.publish(inbox, r#"{"barcode":"2000000000015"}"#.into()).await?;
    }
    Ok(())
}

/// Accepted orders per second, measured from two seconds after the first one.
async fn count_orders(generator: SocketAddr) -> anyhow::Result<f64> {
    const ORDERS: &str = "product-order";
    while accepted(generator, ORDERS).await? == 0.0 {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (started, before) = (Instant::now(), accepted(generator, ORDERS).await?);
    tokio::time::sleep(LENGTH).await;
    Ok((accepted(generator, ORDERS).await? - before) / started.elapsed().as_secs_f64())
}

async fn accepted(generator: SocketAddr, kind: &str) -> anyhow::Result<f64> {
    let metrics = metrics(generator).await?;
    let mut lines = metrics.lines().filter(|line| line.starts_with("off_generator_events_total"));
    let line = lines.find(|line| line.contains(&format!(r#"kind="{kind}""#)) && line.contains(r#"outcome="accepted""#));
    Ok(line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0.0))
}

async fn metrics(generator: SocketAddr) -> anyhow::Result<String> {
    Ok(String::from_utf8(load::fetch(generator, "/metrics").await?.to_vec())?)
}
