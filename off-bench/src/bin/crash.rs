//! `kill -9` between the commit of orders and the publishing of their events: the orders service is killed under load
//! many times. In the end every order in Postgres must have been published, and no other order.

#![expect(clippy::print_stdout, reason = "prints its results to a terminal")]

use anyhow::{Context, ensure};
use clap::Parser;
use off_bench::{
    Stage, load,
    program::{start_off, stop},
    report::progress,
    stage::{DEVICES, PRODUCTS, Ports, order_body, wait_until_ready},
};
use off_events::{Order, headers, streams};
use off_kit::bus::Content;
use rand::RngExt;
use std::{collections::HashSet, time::Duration};
use tokio::time::Instant;
use uuid::Uuid;

/// Orders per second.
const RATE: f64 = 1000.0;

/// Length of a load; the service is killed at a random time during it.
const LENGTH: Duration = Duration::from_millis(400);
const CONNECTIONS: usize = 64;

/// How long publishing all orders may take after the last start.
const PUBLISHED_TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Debug, Parser)]
struct Options {
    /// Number of kills.
    #[arg(long, default_value_t = 200)]
    kills: u32,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let stage = Stage::new().await?;
    stage.seed_data(PRODUCTS, DEVICES).await?;
    let ports = Ports::free()?;
    let settings = stage.settings(&ports);
    let mut unpublished: HashSet<Uuid> = HashSet::new();
    for kill in 1..=options.kills {
        let hit = unpublished.len();
        progress(&format!("kill {kill} of {}; {hit} orders so far were committed but not published", options.kills));
        let mut service = start_off(&["serve", "orders"], &settings)?;
        wait_until_ready(ports.health).await?;
        let after = LENGTH.mul_f64(rand::rng().random_range(0.1..0.9));
        let killing = async {
            tokio::time::sleep(after).await;
            service.kill().await
        };
        let order = |number| load::post("/api/orders", order_body(number)?);
        let sending = load::offer(ports.address, RATE, LENGTH, CONNECTIONS, order);
        tokio::try_join!(sending, killing)?;
        let committed = list_committed(&stage).await?;
        unpublished.extend(committed.difference(&list_published(&stage).await?));
    }
    progress("the last start");
    let service = start_off(&["serve", "orders"], &settings)?;
    let started = Instant::now();
    let committed = list_committed(&stage).await?;
    while !committed.is_subset(&list_published(&stage).await?) {
        ensure!(started.elapsed() < PUBLISHED_TIMEOUT, "orders are not published after the restart of the service");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let took = started.elapsed();
    let unknown = list_published(&stage).await?.difference(&committed).count();
    ensure!(unknown == 0, "{unknown} orders were published that are not in Postgres");
    progress("");
    let (orders, kills, hit) = (committed.len(), options.kills, unpublished.len());
    println!("{orders} orders, {kills} kills; {hit} orders were committed but not published at the time of a kill");
    println!(
        "each was published, the last ones within {:.1} s of the last start; no other order was published",
        took.as_secs_f64()
    );
    stop(service).await?;
    stage.end().await
}

async fn list_committed(stage: &Stage) -> anyhow::Result<HashSet<Uuid>> {
    let ids = sqlx::query_scalar("SELECT id FROM orders.product_orders").fetch_all(&stage.db).await?;
    Ok(ids.into_iter().collect())
}

async fn list_published(stage: &Stage) -> anyhow::Result<HashSet<Uuid>> {
    let mut published = HashSet::new();
    let mut pages = stage.bus.pages(streams::ORDERS.name, Order::PENDING, 1, Content::HeadersOnly).await?;
    while let Some(page) = pages.next().await? {
        for message in page {
            let id = message.headers.as_ref().and_then(|map| map.get(headers::CE_ID)).context("a message has no id")?;
            published.insert(id.as_str().split(':').next().unwrap_or_default().parse()?);
        }
    }
    pages.end().await;
    Ok(published)
}
