//! The generator as a process of its own: what it holds for a hundred thousand devices, and how many orders it can offer to
//! services that answer at once, against how many the real ones accept from it.

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
    time::Duration,
};
use tokio::{net::TcpListener, time::Instant};

const SSDS: i64 = 100_000;
const ROUNDS: usize = 3;
const LENGTH: Duration = Duration::from_secs(8);

/// More orders a second than anyone takes.
const RATE: &str = "20000";

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let stage = Stage::new().await?;
    stage.settle(PRODUCTS, SSDS).await?;
    let (users, orders) = (stage.start_users().await?, stage.start_orders().await?);
    let (mut offered, mut accepted) = (vec![], vec![]);
    progress("meeting a hundred thousand devices");
    let memory = remember(&stage, users.address, orders.address).await?;
    users.stop().await?;
    orders.stop().await?;
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
    at_most("memory with 100,000 devices", memory, 200.0, "MB");
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
        ("GENERATOR_HOUSEHOLDS", "0"),
        ("GENERATOR_REGISTRATION_WEIGHT", "0"),
        ("GENERATOR_ORDER_WEIGHT", "1"),
        ("GENERATOR_CONSUMPTION_WEIGHT", "0"),
    ];
    let program = Program::start(&["serve", "generator"], &settings)?;
    wait_until_ready(ports.health).await?;
    Ok((program, ports.health))
}

/// The memory of a generator that knows every device and plays them, at its usual rate, in megabytes.
async fn remember(stage: &Stage, users: SocketAddr, orders: SocketAddr) -> anyhow::Result<f64> {
    let (generator, address) = start(stage, users, orders, "1").await?;
    // It orders once it has met everyone.
    let deadline = Instant::now() + Duration::from_mins(1);
    while !metrics(address).await?.contains("off_generator_events_total") {
        (Instant::now() < deadline).then_some(()).context("the generator does not begin")?;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let memory = generator.memory()?;
    generator.kill().await?;
    Ok(memory)
}

/// Orders a second that the services accept from the generator.
async fn order(stage: &Stage, users: SocketAddr, orders: SocketAddr) -> anyhow::Result<f64> {
    let (generator, address) = start(stage, users, orders, RATE).await?;
    let rate = count_orders(address).await;
    generator.kill().await?;
    rate
}

/// The same with stand-ins for both services, which answer at once and do nothing.
async fn offer_to_stand_ins(stage: &Stage) -> anyhow::Result<f64> {
    let api = Router::new()
        .route("/api/devices", get(|| async { Json(json!({"devices": []})) }))
        .route("/api/orders", post(|Json(wish): Json<Value>| async { (StatusCode::CREATED, Json(wish)) }));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let api_address = listener.local_addr()?;
    let serving = tokio::spawn(axum::serve(listener, api).into_future());
    let answering = tokio::spawn(answer(stage.bus.clone()));
    let rate = order(stage, api_address, api_address).await;
    serving.abort();
    answering.abort();
    rate
}

/// Answers each `orders.random` with the same device and product.
async fn answer(bus: Bus) -> anyhow::Result<()> {
    let mut questions = bus.client.subscribe(ORDERS_RANDOM).await?;
    while let Some(question) = questions.next().await {
        let mut map = async_nats::HeaderMap::new();
        let id = question.headers.as_ref().and_then(|map| map.get(headers::REQUEST_ID)).context("no id")?;
        map.insert(headers::REQUEST_ID, id.clone());
        for half in [r#"{"ssd_id":1}"#, r#"{"barcode":"2000000000015"}"#] {
            bus.client.publish_with_headers(ORDERS_NEW, map.clone(), half.into()).await?;
        }
    }
    Ok(())
}

/// Orders a second that were accepted, once it is under way.
async fn count_orders(generator: SocketAddr) -> anyhow::Result<f64> {
    while accepted(generator).await? == 0.0 {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (started, before) = (Instant::now(), accepted(generator).await?);
    tokio::time::sleep(LENGTH).await;
    Ok((accepted(generator).await? - before) / started.elapsed().as_secs_f64())
}

async fn accepted(generator: SocketAddr) -> anyhow::Result<f64> {
    let metrics = metrics(generator).await?;
    let mut lines = metrics.lines().filter(|line| line.starts_with("off_generator_events_total"));
    let line = lines.find(|line| line.contains(r#"job="product-order""#) && line.contains(r#"outcome="accepted""#));
    Ok(line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0.0))
}

async fn metrics(generator: SocketAddr) -> anyhow::Result<String> {
    Ok(String::from_utf8(load::fetch(generator, "/metrics").await?.to_vec())?)
}
