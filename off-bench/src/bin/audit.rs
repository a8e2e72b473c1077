//! `off audit` over a million orders with their money, deliveries, shelves and events: how long it takes, and how much
//! more memory it needs than without orders.

#![expect(clippy::print_stdout, reason = "prints its results to a terminal")]

use anyhow::ensure;
use clap::Parser;
use futures::StreamExt;
use off_bench::{
    Stage,
    program::{self, Finished},
    report::{at_most, median, progress},
    store,
};
use off_events::Order;
use off_kit::{Service, bus::OutboundMessage};
use off_orders_service::OrdersService;
use std::{pin::pin, process::Stdio};
use tokio::process::Command;

/// Events that are published at once.
const PUBLISH_BATCH: usize = 2000;

const PRODUCTS: i64 = 1000;
const ROUNDS: usize = 3;

/// Targets for a million orders: seconds, and megabytes.
const TARGET_SECONDS: f64 = 30.0;
const TARGET_GROWTH: f64 = 16.0;

#[derive(Debug, Parser)]
struct Options {
    /// Number of stored orders.
    #[arg(long, default_value_t = 1_000_000)]
    orders: i64,
    /// Number of people; each has an account and a device.
    #[arg(long, default_value_t = 10_000)]
    people: i64,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let stage = Stage::new().await?;
    progress("storing people");
    stage.seed_data(PRODUCTS, options.people).await?;
    let without_orders = audit(&stage).await?;
    stage.store_ended(options.orders, options.people, PRODUCTS).await?;
    publish_events(&stage).await?;
    store::vacuum(&stage.db).await?;
    store::checkpoint(&stage.db).await?;
    let (mut seconds, mut memory): (Vec<f64>, f64) = (Vec::new(), 0.0);
    for round in 1..=ROUNDS {
        progress(&format!("round {round} of {ROUNDS}"));
        let finished = audit(&stage).await?;
        progress("");
        print_first_line(&finished);
        seconds.push(finished.seconds);
        memory = memory.max(finished.memory);
    }
    println!(
        "the process took {seconds:.1?} s, with at most {memory:.1} MB; without orders {:.1} MB",
        without_orders.memory
    );
    at_most("the audit, median of three rounds", median(seconds), TARGET_SECONDS, "s");
    at_most("memory it needs more than without orders", memory - without_orders.memory, TARGET_GROWTH, "MB");
    stage.end().await
}

/// Publishes `orders.pending` of all orders.
async fn publish_events(stage: &Stage) -> anyhow::Result<()> {
    progress("publishing events");
    let mut batches = pin!(store::list_placed(&stage.db).chunks(PUBLISH_BATCH));
    while let Some(batch) = batches.next().await {
        let orders: Vec<Order> = batch.into_iter().collect::<anyhow::Result<_>>()?;
        let message = |order: &Order| OutboundMessage::of(OrdersService::NAME, order, order.timestamp, None);
        let messages = orders.iter().map(message).collect::<Result<Vec<_>, _>>()?;
        stage.bus.publish_all(messages).await.into_iter().collect::<Result<(), _>>()?;
    }
    Ok(())
}

async fn audit(stage: &Stage) -> anyhow::Result<Finished> {
    let mut audit = Command::new(program::find_off()?);
    audit.arg("audit").env("DATABASE_URL", &stage.postgres.url).env("NATS_URL", &stage.nats.url).stdout(Stdio::piped());
    let finished = program::run(&mut audit).await?;
    let report = String::from_utf8_lossy(&finished.output.stdout);
    ensure!(finished.output.status.success(), "the audit has findings, but none were expected:\n{report}");
    Ok(finished)
}

/// Prints what the audit read.
fn print_first_line(finished: &Finished) {
    println!("{}", String::from_utf8_lossy(&finished.output.stdout).lines().next().unwrap_or_default());
}
