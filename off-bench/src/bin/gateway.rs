//! Orders through the gateway compared with orders that go directly to the orders service: throughput, latency at half
//! of the gateway's load, and its processor time. Then ten thousand idle connections, each after one order.

#![expect(clippy::print_stdout, reason = "prints its results to a terminal")]

use anyhow::{Context, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use off_bench::{
    Outcome, Stage,
    load::{self, Connection},
    proc::{highest_memory_of, memory_of, processor_time_of},
    program::{start_off, stop},
    report::{at_most, median, progress, ratio, table},
    stage::{DEVICES, PRODUCTS, Ports, order_body, wait_until_ready},
};
use off_testkit::Process;
use std::{net::SocketAddr, time::Duration};

const ROUNDS: usize = 5;
const LENGTH: Duration = Duration::from_secs(4);

/// Connections of the closed loops.
const CONNECTIONS: u64 = 64;

/// Connections that the open loops may use.
const MAX_IN_FLIGHT: usize = 512;

const IDLE_CONNECTIONS: usize = 10_000;

/// How long they are idle before the memory is read. The gateway frees the buffers of a connection after some seconds.
const IDLE: Duration = Duration::from_secs(10);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let stage = Stage::new().await?;
    stage.seed_data(PRODUCTS, DEVICES).await?;
    let bench = Bench::start(stage).await?;
    progress("warming up");
    for address in [bench.orders.address, bench.gateway.address, bench.orders.address] {
        measure_capacity(address).await?;
    }
    let mut rounds = Rounds::default();
    for round in 1..=ROUNDS {
        progress(&format!("round {round} of {ROUNDS}: as many orders as possible"));
        bench.measure_capacities(round, &mut rounds).await?;
    }
    let rate = median(rounds.through.iter().map(|round| round.outcome.rate())) / 2.0;
    for round in 1..=ROUNDS {
        progress(&format!("round {round} of {ROUNDS}: {rate:.0} orders per second"));
        bench.measure_latencies(round, rate, &mut rounds).await?;
    }
    progress("ten thousand idle connections");
    bench.stage.delete_orders().await?;
    let memory = bench.measure_memory().await?;
    progress("");
    rounds.print(rate);
    memory.print();
    bench.end().await
}

/// A service in its own process.
struct Program {
    process: Process,
    address: SocketAddr,
    health: SocketAddr,
}

impl Program {
    async fn start(stage: &Stage, service: &str, more: &[(&str, &str)]) -> anyhow::Result<Self> {
        let ports = Ports::free()?;
        let settings: Vec<_> = stage.settings(&ports).into_iter().chain(more.iter().copied()).collect();
        let process = start_off(&["serve", service], &settings)?;
        wait_until_ready(ports.health).await?;
        Ok(Self { process, address: ports.address, health: ports.health })
    }

    fn id(&self) -> anyhow::Result<u32> {
        self.process.pid()
    }
}

/// The orders service, and a gateway in front of it.
struct Bench {
    stage: Stage,
    orders: Program,
    gateway: Program,
}

impl Bench {
    async fn start(stage: Stage) -> anyhow::Result<Self> {
        let orders = Program::start(&stage, "orders", &[]).await?;
        let url = |address| format!("http://{address}");
        let (api, health) = (url(orders.address), url(orders.health));
        let gateway = Program::start(
            &stage,
            "gateway",
            &[("ORDERS_URL", &api), ("ORDERS_HEALTH_URL", &health), ("MAX_CONNECTIONS_PER_ADDRESS", "0")],
        )
        .await?;
        Ok(Self { stage, orders, gateway })
    }

    /// The addresses to measure, in an order that changes from round to round.
    fn addresses(&self, round: usize) -> [SocketAddr; 2] {
        let mut addresses = [self.orders.address, self.gateway.address];
        addresses.rotate_left(round % 2);
        addresses
    }

    /// Measures one more round of closed loops.
    async fn measure_capacities(&self, round: usize, rounds: &mut Rounds) -> anyhow::Result<()> {
        for address in self.addresses(round) {
            self.stage.delete_orders().await?;
            let measured = self.with_usage(measure_capacity(address)).await?;
            if address == self.gateway.address { &mut rounds.through } else { &mut rounds.direct }.push(measured);
        }
        Ok(())
    }

    /// Measures one more round of open loops at the same rate.
    async fn measure_latencies(&self, round: usize, rate: f64, rounds: &mut Rounds) -> anyhow::Result<()> {
        for address in self.addresses(round) {
            self.stage.delete_orders().await?;
            let measured = self.with_usage(offer(address, rate)).await?;
            if address == self.gateway.address { &mut rounds.half_through } else { &mut rounds.half_direct }
                .push(measured);
        }
        Ok(())
    }

    async fn with_usage(&self, load: impl Future<Output = anyhow::Result<Outcome>>) -> anyhow::Result<Round> {
        let used = || anyhow::Ok((processor_time_of(self.gateway.id()?)?, processor_time_of(self.orders.id()?)?));
        let before = used()?;
        let outcome = load.await?;
        let after = used()?;
        let micros = |seconds: f64| seconds * 1e6 / outcome.count() as f64;
        Ok(Round { gateway: micros(after.0 - before.0), orders: micros(after.1 - before.1), outcome })
    }

    async fn measure_memory(&self) -> anyhow::Result<Memory> {
        let id = self.gateway.id()?;
        let before = memory_of(id)?;
        let idle = stream::iter(0..IDLE_CONNECTIONS as u64).map(|number| place_one(self.gateway.address, number));
        let idle: Vec<Connection> = idle.buffer_unordered(64).try_collect().await?;
        tokio::time::sleep(IDLE).await;
        let after = memory_of(id)?;
        let open = self.open_connections().await?;
        ensure!(open >= idle.len() as f64, "only {open} of {} idle connections are open", idle.len());
        Ok(Memory { before, after, highest: highest_memory_of(id)? })
    }

    /// Connections that the gateway serves now.
    async fn open_connections(&self) -> anyhow::Result<f64> {
        let metrics = load::fetch(self.gateway.health, "/metrics").await?;
        let metrics = String::from_utf8_lossy(&metrics);
        let line = metrics.lines().find(|line| line.starts_with("off_http_connections{"));
        Ok(line.and_then(|line| line.rsplit(' ').next()).context("no metric of connections")?.parse()?)
    }

    async fn end(self) -> anyhow::Result<()> {
        stop(self.gateway.process).await?;
        stop(self.orders.process).await?;
        self.stage.end().await
    }
}

async fn measure_capacity(address: SocketAddr) -> anyhow::Result<Outcome> {
    let order = |number| load::post("/api/orders", order_body(number)?);
    let outcome = load::load(address, CONNECTIONS, LENGTH, order).await?;
    outcome.expect_only(&[201])?;
    Ok(outcome)
}

async fn offer(address: SocketAddr, rate: f64) -> anyhow::Result<Outcome> {
    let order = |number| load::post("/api/orders", order_body(number)?);
    let offered = load::offer(address, rate, LENGTH, MAX_IN_FLIGHT, order).await?;
    offered.expect_all(201)?;
    Ok(offered.outcome)
}

/// Places an order on a new connection, which stays open.
async fn place_one(address: SocketAddr, number: u64) -> anyhow::Result<Connection> {
    let mut connection = Connection::open(address).await?;
    let status = connection.send(load::post("/api/orders", order_body(number)?)?).await?;
    ensure!(status == 201, "an order was answered with {status}");
    Ok(connection)
}

/// The responses to a load, and the processor time per order of each process, in microseconds.
#[derive(Debug)]
struct Round {
    outcome: Outcome,
    gateway: f64,
    orders: f64,
}

#[derive(Debug, Default)]
struct Rounds {
    direct: Vec<Round>,
    through: Vec<Round>,
    half_direct: Vec<Round>,
    half_through: Vec<Round>,
}

impl Rounds {
    fn print(&self, rate: f64) {
        let mut table = table(&["", "orders/s", "p50 ms", "p99 ms", "gateway µs/order", "orders µs/order"]);
        for (name, rounds) in [
            ("direct, 64 connections".to_owned(), &self.direct),
            ("gateway, 64 connections".to_owned(), &self.through),
            (format!("direct, {rate:.0}/s offered"), &self.half_direct),
            (format!("gateway, {rate:.0}/s offered"), &self.half_through),
        ] {
            let figure = |figure: fn(&Round) -> f64| median(rounds.iter().map(figure));
            table.add_row([
                name,
                format!("{:.0}", figure(|round| round.outcome.rate())),
                format!("{:.2}", figure(|round| round.outcome.ms(0.5))),
                format!("{:.2}", figure(|round| round.outcome.ms(0.99))),
                format!("{:.1}", figure(|round| round.gateway)),
                format!("{:.1}", figure(|round| round.orders)),
            ]);
        }
        println!("{table}\n(medians of {ROUNDS} rounds)\n");
        let rates = pairs(&self.through, &self.direct, |round| round.outcome.rate());
        ratio("throughput through the gateway against direct", median(rates.map(|(ours, other)| ours / other)), 0.55);
        let p50s = pairs(&self.half_through, &self.half_direct, |round| round.outcome.ms(0.5));
        at_most("p50 at half load, above direct", median(p50s.map(|(ours, other)| ours - other)), 0.5, "ms");
    }
}

/// A figure of both loads of each round.
fn pairs(ours: &[Round], other: &[Round], figure: fn(&Round) -> f64) -> impl Iterator<Item = (f64, f64)> {
    ours.iter().zip(other).map(move |(ours, other)| (figure(ours), figure(other)))
}

/// Memory of the gateway, in megabytes.
#[derive(Debug)]
struct Memory {
    before: f64,
    after: f64,
    highest: f64,
}

impl Memory {
    fn print(&self) {
        at_most("memory of the gateway with 10,000 idle connections", self.after, 100.0, "MB");
        println!("({:.1} MB before them, {:.1} MB at most)", self.before, self.highest);
    }
}
