//! The generator as a process of its own: what it holds for fifty thousand households, which have a hundred thousand devices, and how
//! many orders it can offer to services that answer at once, against how many the real ones accept from it.

#![expect(clippy::print_stdout, reason = "it talks to a person in a terminal")]

use anyhow::Context;
use axum::{
    Json, Router,
    http::StatusCode,
    routing::{get, post},
};
use futures::StreamExt;
use off_bench::{
    Program, Stage, load,
    report::{at_most, median, progress, ratio},
    stage::{PRODUCTS, Ports, wait_until_ready},
};
use off_events::{ORDERS_NEW, ORDERS_RANDOM, headers};
use off_kit::Bus;
use serde_json::{Value, json};
use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};
use tokio::{net::TcpListener, task::JoinHandle, time::Instant};

/// Households whose devices the generator has to remember, and those that order.
const MANY_HOUSEHOLDS: &str = "50000";
const HOUSEHOLDS: &str = "20";
const ROUNDS: usize = 3;
const LENGTH: Duration = Duration::from_secs(8);

/// More orders a second than anyone takes.
const RATE: &str = "20000";

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let stage = Stage::new().await?;
    stage.settle(PRODUCTS, 0).await?;
    let (mut offered, mut accepted) = (vec![], vec![]);
    progress("registering fifty thousand households");
    let memory = remember(&stage).await?;
    for round in 1..=ROUNDS {
        progress(&format!("round {round} of {ROUNDS}"));
        offered.push(offer_to_stand_ins(&stage).await?);
        let (users, orders) = (stage.start_users().await?, stage.start_orders().await?);
        accepted.push(order(&stage, users.address, orders.address).await?);
        users.stop().await?;
        orders.stop().await?;
        stage.forget_orders().await?;
    }
    progress("");
    println!(
        "{:.0} orders a second were offered to services that answer at once; {:.0} were accepted by the real ones\n",
        median(offered.iter().copied()),
        median(accepted.iter().copied())
    );
    at_most("memory with 50,000 households", memory, 200.0, "MB");
    ratio(
        "what it can offer against what is accepted",
        median(offered.iter().zip(&accepted).map(|(offered, accepted)| offered / accepted)),
        2.0,
    );
    stage.end().await
}

/// Starts the generator; says where its health port is.
async fn start(
    stage: &Stage,
    users: SocketAddr,
    orders: SocketAddr,
    rate: &str,
    households: &str,
) -> anyhow::Result<(Program, SocketAddr)> {
    let ports = Ports::free()?;
    let ([api, health], users, orders) = (ports.settings(), format!("http://{users}"), format!("http://{orders}"));
    let settings = [
        ("NATS_URL", &*stage.nats.url),
        api,
        health,
        ("USERS_URL", &users),
        ("ORDERS_URL", &orders),
        ("GENERATOR_RATE", rate),
        ("GENERATOR_HOUSEHOLDS", households),
        ("GENERATOR_REGISTRATION_WEIGHT", "0"),
        ("GENERATOR_ORDER_WEIGHT", "1"),
        ("GENERATOR_CONSUMPTION_WEIGHT", "0"),
    ];
    let program = Program::start(&["serve", "generator"], &settings)?;
    wait_until_ready(ports.health).await?;
    Ok((program, ports.health))
}

/// The memory of a generator that has registered many households and plays them, at its usual rate, in megabytes.
async fn remember(stage: &Stage) -> anyhow::Result<f64> {
    let stand_in = StandIn::start(stage).await?;
    let (generator, address) = start(stage, stand_in.address, stand_in.address, "1", MANY_HOUSEHOLDS).await?;
    let deadline = Instant::now() + Duration::from_mins(3);
    let wanted = MANY_HOUSEHOLDS.parse()?;
    while accepted(address, "user-registration").await? < wanted {
        (Instant::now() < deadline).then_some(()).context("the households do not register")?;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let memory = generator.memory()?;
    generator.kill().await?;
    stand_in.stop();
    Ok(memory)
}

/// Orders a second that the services accept from the generator.
async fn order(stage: &Stage, users: SocketAddr, orders: SocketAddr) -> anyhow::Result<f64> {
    let (generator, address) = start(stage, users, orders, RATE, HOUSEHOLDS).await?;
    let rate = count_orders(address).await;
    generator.kill().await?;
    rate
}

/// The same with a stand-in for both services.
async fn offer_to_stand_ins(stage: &Stage) -> anyhow::Result<f64> {
    let stand_in = StandIn::start(stage).await?;
    let rate = order(stage, stand_in.address, stand_in.address).await;
    stand_in.stop();
    rate
}

/// Answers as both services would, at once, and does nothing.
struct StandIn {
    address: SocketAddr,
    serving: JoinHandle<std::io::Result<()>>,
    answering: JoinHandle<anyhow::Result<()>>,
}

impl StandIn {
    async fn start(stage: &Stage) -> anyhow::Result<Self> {
        let next = Arc::new(AtomicI64::new(1));
        let register = move |Json(household): Json<Value>| {
            let count = household["devices"].as_array().map_or(0, Vec::len);
            let devices: Vec<Value> =
                (0..count).map(|_| json!({"ssd_id": next.fetch_add(1, Ordering::Relaxed)})).collect();
            async move { (StatusCode::CREATED, Json(json!({"devices": devices}))) }
        };
        let api = Router::new()
            .route("/api/devices", get(|| async { Json(json!({"devices": []})) }))
            .route("/api/register", post(register))
            .route("/api/orders", post(|Json(wish): Json<Value>| async { (StatusCode::CREATED, Json(wish)) }));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let serving = tokio::spawn(axum::serve(listener, api).into_future());
        Ok(Self { address, serving, answering: tokio::spawn(answer(stage.bus.clone())) })
    }

    fn stop(self) {
        self.serving.abort();
        self.answering.abort();
    }
}

/// Answers each `orders.random` with the same product.
async fn answer(bus: Bus) -> anyhow::Result<()> {
    let mut questions = bus.client.subscribe(ORDERS_RANDOM).await?;
    while let Some(question) = questions.next().await {
        let mut map = async_nats::HeaderMap::new();
        let id = question.headers.as_ref().and_then(|map| map.get(headers::REQUEST_ID)).context("no id")?;
        map.insert(headers::REQUEST_ID, id.clone());
        bus.client.publish_with_headers(ORDERS_NEW, map, r#"{"barcode":"2000000000015"}"#.into()).await?;
    }
    Ok(())
}

/// Orders a second that were accepted, once it is under way.
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

async fn accepted(generator: SocketAddr, job: &str) -> anyhow::Result<f64> {
    let metrics = metrics(generator).await?;
    let mut lines = metrics.lines().filter(|line| line.starts_with("off_generator_events_total"));
    let line = lines.find(|line| line.contains(&format!(r#"job="{job}""#)) && line.contains(r#"outcome="accepted""#));
    Ok(line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0.0))
}

async fn metrics(generator: SocketAddr) -> anyhow::Result<String> {
    Ok(String::from_utf8(load::fetch(generator, "/metrics").await?.to_vec())?)
}
