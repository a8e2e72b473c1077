//! The billing service charges a backlog of orders: orders per second, compared with one transaction for each order, and
//! Postgres' processor time per order. A fifth of the 100,000 people has no money.

#![expect(clippy::print_stdout, reason = "prints its results to a terminal")]

use anyhow::{Context, ensure};
use clap::Parser;
use off_bench::{
    Stage, plain_charge,
    program::{start_off, stop},
    report::{at_most, median, progress, ratio, table},
    stage::{PRODUCTS, Ports, barcode},
    store,
    usage::{Measured, Usage},
};
use off_events::{Money, Order, OrderId, OrderStatus, Quantity, SsdId, UserId, streams};
use off_kit::{Clock, Service, bus::OutboundMessage};
use off_orders_service::OrdersService;
use std::time::Duration;
use tokio::time::Instant;
use uuid::Uuid;

const PEOPLE: i64 = 100_000;
const ROUNDS: usize = 3;

/// Connections with which the plain service is tried.
const CONNECTIONS: [u32; 4] = [8, 16, 32, 64];

/// Orders that each of them charges in that trial.
const TRIAL: usize = 10_000;

/// The measurement begins after one in so many orders.
const WARM_UP: usize = 10;

/// Orders that are published at once.
const PUBLISH_BATCH: usize = 2000;

const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Targets: microseconds of Postgres' processor time, and the ratio to the plain service.
const TARGET_MICROS: f64 = 40.0;
const TARGET_RATIO: f64 = 8.0;

#[derive(Debug, Parser)]
struct Options {
    /// Orders that the billing service charges in a round.
    #[arg(long, default_value_t = 200_000)]
    orders: usize,
    /// Orders that the plain service charges in a round.
    #[arg(long, default_value_t = 40_000)]
    plain_orders: usize,
}

/// The result of a round.
struct Round {
    /// Orders per second.
    rate: f64,
    /// Microseconds of processor time per order, by process.
    costs: Vec<(&'static str, f64)>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let stage = Stage::new().await?;
    progress("storing people");
    stage.seed_data(PRODUCTS, PEOPLE).await?;
    let connections = find_best_connections(&stage).await?;
    let (mut own, mut plain, mut bare) = (Vec::new(), Vec::new(), Vec::new());
    for round in 1..=ROUNDS {
        progress(&format!("round {round} of {ROUNDS}"));
        own.push(measure_own(&stage, options.orders).await?);
        plain.push(measure_plain(&stage, options.plain_orders, connections).await?);
        bare.push(measure_bare(&stage, options.plain_orders, connections).await?);
    }
    progress("");
    let mut table = table(&["median of rounds", "orders/s", "processor time of Postgres, µs/order"]);
    let (name, bare_name) =
        (format!("one transaction per order, {connections} connections"), "… without a broker".to_owned());
    for (name, rounds) in [("off-billing-service".to_owned(), &own), (name, &plain), (bare_name, &bare)] {
        table.add_row([name, format!("{:.0}", rate(rounds)), format!("{:.1}", cost(rounds, "Postgres"))]);
    }
    println!("{table}\n");
    println!(
        "the billing service itself: {:.1} µs, NATS: {:.1} µs per order",
        cost(&own, "billing"),
        cost(&own, "NATS")
    );
    at_most("processor time of Postgres for an order", cost(&own, "Postgres"), TARGET_MICROS, "µs");
    ratio("orders a second, against one transaction per order", rate(&own) / rate(&plain), TARGET_RATIO);
    ratio("… without a broker", rate(&own) / rate(&bare), TARGET_RATIO);
    stage.end().await
}

fn rate(rounds: &[Round]) -> f64 {
    median(rounds.iter().map(|round| round.rate))
}

fn cost(rounds: &[Round], process: &str) -> f64 {
    let costs = rounds.iter().flat_map(|round| &round.costs);
    median(costs.filter(|(name, _)| *name == process).map(|&(_, cost)| cost))
}

/// The number of connections with which the plain service is fastest.
async fn find_best_connections(stage: &Stage) -> anyhow::Result<u32> {
    let mut best = (0.0, 0);
    for connections in CONNECTIONS {
        progress(&format!("one transaction per order, {connections} connections"));
        let round = measure_plain(stage, TRIAL, connections).await?;
        if round.rate > best.0 {
            best = (round.rate, connections);
        }
    }
    Ok(best.1)
}

/// Orders of different people, as they are placed.
fn new_orders(count: usize) -> anyhow::Result<Vec<Order>> {
    let now = Clock::real(1.0).now();
    let order = |number: usize| {
        let number = i64::try_from(number)?;
        let user = 1 + number * 7919 % PEOPLE;
        let (quantity, unit_price) = (Quantity::try_from(2)?, Money::from_cents(299)?);
        Ok(Order {
            id: OrderId(Uuid::now_v7()),
            ssd_id: SsdId(user),
            user_id: UserId(user),
            barcode: barcode(1 + number % PRODUCTS).parse()?,
            timestamp: now,
            quantity,
            unit_price,
            total: unit_price.checked_mul(quantity).context("the price is too large")?,
            status: OrderStatus::Pending,
            refusal: None,
        })
    };
    (0..count).map(order).collect()
}

/// Publishes `orders.pending` while no service consumes it.
async fn publish(stage: &Stage, orders: &[Order]) -> anyhow::Result<()> {
    stage.bus.jetstream.get_stream_no_info(streams::ORDERS.name).await?.purge().await?;
    for batch in orders.chunks(PUBLISH_BATCH) {
        let message = |order: &Order| OutboundMessage::of(OrdersService::NAME, order, order.timestamp, None);
        let messages = batch.iter().map(message).collect::<Result<Vec<_>, _>>()?;
        stage.bus.publish_all(messages).await.into_iter().collect::<Result<(), _>>()?;
    }
    Ok(())
}

/// Measures the billing service while it handles a backlog.
async fn measure_own(stage: &Stage, count: usize) -> anyhow::Result<Round> {
    store::reset_accounts(&stage.db).await?;
    publish(stage, &new_orders(count)?).await?;
    let ports = Ports::free()?;
    let service = start_off(&["serve", "billing"], &stage.settings(&ports))?;
    let measured = Measured { name: "billing", id: service.pid()?, health: None };
    let round = measure_backlog(stage, count, &[servers(stage)?.as_slice(), &[measured]].concat()).await?;
    stop(service).await?;
    Ok(round)
}

/// Measures the plain service while it handles a backlog.
async fn measure_plain(stage: &Stage, count: usize, connections: u32) -> anyhow::Result<Round> {
    store::reset_accounts(&stage.db).await?;
    publish(stage, &new_orders(count)?).await?;
    let service = plain_charge::start(stage, connections).await?;
    let round = measure_backlog(stage, count, &servers(stage)?).await?;
    service.stop().await?;
    Ok(round)
}

/// Measures the transactions of the plain service alone.
async fn measure_bare(stage: &Stage, count: usize, connections: u32) -> anyhow::Result<Round> {
    store::reset_accounts(&stage.db).await?;
    let (orders, servers) = (new_orders(count)?, servers(stage)?);
    let before = Usage::now(&servers).await?;
    plain_charge::charge_all(stage, &orders, connections).await?;
    let after = Usage::now(&servers).await?;
    check_decisions(stage, count).await?;
    Ok(round(count as f64, &before, &after))
}

fn servers(stage: &Stage) -> anyhow::Result<[Measured; 2]> {
    Ok([
        Measured { name: "Postgres", id: stage.postgres.id()?, health: None },
        Measured { name: "NATS", id: stage.nats.id()?, health: None },
    ])
}

/// Waits until `count` orders are handled, and measures after the warm-up.
async fn measure_backlog(stage: &Stage, count: usize, measured: &[Measured]) -> anyhow::Result<Round> {
    let started = wait_until_left(stage, (count - count / WARM_UP) as u64).await?;
    let before = Usage::now(measured).await?;
    wait_until_left(stage, 0).await?;
    let after = Usage::now(measured).await?;
    check_decisions(stage, count).await?;
    Ok(round(started as f64, &before, &after))
}

/// Waits until at most `left` orders are not handled; returns how many are not.
async fn wait_until_left(stage: &Stage, left: u64) -> anyhow::Result<u64> {
    let deadline = Instant::now() + Duration::from_mins(3);
    loop {
        let backlog = stage.bus.backlog(&streams::BILLING_PENDING).await?;
        let found = backlog.pending + backlog.unacknowledged;
        if found <= left {
            return Ok(found);
        }
        ensure!(Instant::now() < deadline, "{found} orders are not charged");
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

/// Fails unless each order is charged, or refused if its person has no money.
async fn check_decisions(stage: &Stage, count: usize) -> anyhow::Result<()> {
    let (charged, refused) = store::count_decisions(&stage.db).await?;
    let expected = i64::try_from(count)?;
    ensure!(
        charged + refused == expected && refused == expected / 5,
        "{charged} orders were charged, {refused} refused"
    );
    Ok(())
}

fn round(orders: f64, before: &Usage, after: &Usage) -> Round {
    let rate = orders / after.length_since(before).as_secs_f64();
    let costs = after.processes_since(before).into_iter().map(|(name, seconds)| (name, seconds * 1e6 / orders));
    Round { rate, costs: costs.collect() }
}
