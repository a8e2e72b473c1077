//! `kill -9` between the commit of orders and their events: the orders service is killed under load, again and again, and in the
//! end every order that Postgres has was published, and nothing else was.

#![expect(clippy::print_stdout, reason = "it talks to a person in a terminal")]

use anyhow::{Context, ensure};
use clap::Parser;
use off_bench::{
    Program, Stage, load,
    report::progress,
    stage::{PRODUCTS, Ports, SSDS, wait_until_ready, wish},
};
use off_events::{Order, headers, streams};
use off_kit::bus::Content;
use rand::RngExt;
use std::{collections::HashSet, time::Duration};
use tokio::time::Instant;
use uuid::Uuid;

/// Orders a second, and how long they are sent: the service is killed at some time of it.
const RATE: f64 = 1000.0;
const LENGTH: Duration = Duration::from_millis(400);
const CONNECTIONS: usize = 64;

/// How long after the last start every order is to be published.
const PUBLISHED_WITHIN: Duration = Duration::from_secs(30);

#[derive(Debug, Parser)]
struct Options {
    /// How often the service is killed.
    #[arg(long, default_value_t = 200)]
    kills: u32,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let stage = Stage::new().await?;
    stage.settle(PRODUCTS, SSDS).await?;
    let ports = Ports::free()?;
    let settings = stage.settings(&ports);
    let mut overtaken: HashSet<Uuid> = HashSet::new();
    for kill in 1..=options.kills {
        let hit = overtaken.len();
        progress(&format!("kill {kill} of {}, {hit} orders were committed and not published", options.kills));
        let service = Program::start(&["serve", "orders"], &settings)?;
        wait_until_ready(ports.health).await?;
        let after = LENGTH.mul_f64(rand::rng().random_range(0.1..0.9));
        let killing = async {
            tokio::time::sleep(after).await;
            service.kill().await
        };
        let sending =
            load::offer(ports.address, RATE, LENGTH, CONNECTIONS, |number| load::post("/api/orders", wish(number)?));
        tokio::try_join!(sending, killing)?;
        let committed = list_committed(&stage).await?;
        overtaken.extend(committed.difference(&list_published(&stage).await?));
    }
    progress("the last start");
    let service = Program::start(&["serve", "orders"], &settings)?;
    let started = Instant::now();
    let committed = list_committed(&stage).await?;
    while !committed.is_subset(&list_published(&stage).await?) {
        ensure!(started.elapsed() < PUBLISHED_WITHIN, "orders are not published though their service runs again");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let took = started.elapsed();
    let unknown = list_published(&stage).await?.difference(&committed).count();
    ensure!(unknown == 0, "{unknown} orders were published that Postgres does not have");
    progress("");
    let (orders, kills, hit) = (committed.len(), options.kills, overtaken.len());
    println!("{orders} orders, {kills} kills; {hit} orders were committed and not published at one of them");
    println!(
        "each was published, the last ones within {:.1} s of the last start; nothing else was",
        took.as_secs_f64()
    );
    service.stop().await?;
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
