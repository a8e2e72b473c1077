//! The whole way of an order: `POST`, supplier and delivery without waits, shelf. Finds the highest rate at which
//! every queue stays level, then tells at half that rate how long an order takes to each state. The services are processes
//! of their own, so that it can tell what each of them uses.

#![expect(clippy::print_stdout, reason = "it talks to a person in a terminal")]

use anyhow::Context;
use clap::Parser;
use futures::StreamExt;
use hdrhistogram::Histogram;
use off_bench::{
    Program, Stage, load, plain,
    program::highest_memory_of,
    report::{at_most, median, progress, ratio, table},
    stage::{PRODUCTS, Ports, SSDS, wait_until_ready, wish},
    used::{Measured, Used},
};
use off_events::{Order, OrderStatus};
use off_kit::Clock;
use std::{net::SocketAddr, time::Duration};
use tokio::task::JoinSet;

/// How long each rate is kept up.
const LENGTH: Duration = Duration::from_secs(15);

/// Connections that share a rate.
const CONNECTIONS: usize = 64;

/// By how many orders the rate grows from one try to the next.
const STEP: u64 = 500;

/// Queues are level while they hold less than what arrives in this many seconds.
const LEVEL: f64 = 0.5;

/// What was hoped for, in orders a second and milliseconds.
const RATE_HOPED_FOR: f64 = 6000.0;
const MS_TO_PENDING_HOPED_FOR: f64 = 40.0;
const MS_OF_A_CORE_HOPED_FOR: f64 = 0.3;
const SHARE_OF_A_CORE_HOPED_FOR: f64 = 0.5;

/// Suppliers and deliveries that take no time.
const NO_WAITS: [(&str, &str); 4] = [
    ("SUPPLIER_DELAY_MIN", "0s"),
    ("SUPPLIER_DELAY_MAX", "0s"),
    ("DELIVERY_DELAY_MIN", "0s"),
    ("DELIVERY_DELAY_MAX", "0s"),
];

/// The services an order comes through, and who carries it.
struct System {
    services: Vec<(&'static str, Ports, Program)>,
    measured: Vec<Measured>,
}

/// What came of a rate.
struct Try {
    /// Orders answered with 201 in a second.
    accepted: f64,
    /// What was left in all queues together at the end.
    backlog: u64,
    /// Milliseconds from `POST` to each state.
    times: [Histogram<u64>; 3],
    /// Milliseconds of a core for each order, by process.
    costs: Vec<(&'static str, f64)>,
    /// The task that was polled most, and its share of a core.
    busiest: (String, f64),
}

impl Try {
    fn cost(&self) -> f64 {
        self.costs.iter().map(|(_, cost)| cost).sum()
    }

    fn print_costs(&self, rate: u64) {
        let costs: Vec<String> = self.costs.iter().map(|(name, cost)| format!("{name} {cost:.3}")).collect();
        println!("\nms of a core for each order at {rate} a second: {}", costs.join(", "));
        let (task, share) = &self.busiest;
        println!("the busiest task then: {task}, {share:.2} of a core");
    }
}

#[derive(Debug, Parser)]
struct Options {
    /// Only these rates, in orders a second; without it, one after the other until the queues do not stay level.
    #[arg(long, value_name = "N")]
    rate: Vec<u64>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let stage = Stage::new().await?;
    stage.settle(PRODUCTS, SSDS).await?;
    if options.rate.is_empty() { find_highest(stage).await } else { try_rates(stage, &options.rate).await }
}

fn new_table() -> comfy_table::Table {
    table(&[
        "orders/s",
        "accepted",
        "left in queues",
        "pending p50/p99 ms",
        "shipped",
        "completed",
        "ms of a core each",
    ])
}

async fn try_rates(stage: Stage, rates: &[u64]) -> anyhow::Result<()> {
    let system = System::start(&stage).await?;
    attempt(&stage, &system, STEP).await?;
    let mut table = new_table();
    for &rate in rates {
        progress(&format!("{rate} orders a second"));
        let tried = attempt(&stage, &system, rate).await?;
        add_row(&mut table, rate, &tried);
        tried.print_costs(rate);
    }
    println!("{table}");
    system.stop().await?;
    stage.end().await
}

async fn find_highest(stage: Stage) -> anyhow::Result<()> {
    let plain = measure_plain(&stage).await?;
    let system = System::start(&stage).await?;
    attempt(&stage, &system, STEP).await?;
    let mut table = new_table();
    let (mut best, mut at_best) = (0, None);
    for rate in (1..).map(|step| step * STEP) {
        progress(&format!("{rate} orders a second"));
        let tried = attempt(&stage, &system, rate).await?;
        let is_level = tried.accepted >= 0.98 * rate as f64 && (tried.backlog as f64) < LEVEL * rate as f64;
        add_row(&mut table, rate, &tried);
        if !is_level {
            break;
        }
        (best, at_best) = (rate, Some(tried));
    }
    let at_best = at_best.context("not even the lowest rate stays level")?;
    progress(&format!("{} orders a second", best / 2));
    let half = attempt(&stage, &system, (best / 2).max(1)).await?;
    add_row(&mut table, best / 2, &half);
    progress("");
    println!("{table}\n");
    at_best.print_costs(best);
    let memory: Vec<String> = system.memory()?.iter().map(|(name, memory)| format!("{name} {memory:.0}")).collect();
    println!("the most memory each service has held, in MB: {}", memory.join(", "));
    println!("the plain handler alone takes {plain:.0} orders/s in this run");
    ratio("orders a second with all queues level, against that", best as f64 / plain, 1.5);
    ratio("orders a second with all queues level, against 6,000", best as f64 / RATE_HOPED_FOR, 1.0);
    at_most(
        "p99 from POST to orders.pending at half that rate",
        ms(&half.times[0], 0.99),
        MS_TO_PENDING_HOPED_FOR,
        "ms",
    );
    at_most("processor time for each order, without the load", at_best.cost(), MS_OF_A_CORE_HOPED_FOR, "ms");
    at_most("the busiest task's share of a core", at_best.busiest.1, SHARE_OF_A_CORE_HOPED_FOR, "");
    system.stop().await?;
    stage.end().await
}

fn add_row(table: &mut comfy_table::Table, rate: u64, tried: &Try) {
    let [pending, shipped, completed] =
        tried.times.each_ref().map(|times| format!("{:.1} / {:.1}", ms(times, 0.5), ms(times, 0.99)));
    let accepted = format!("{:.0}", tried.accepted);
    let cost = format!("{:.3}", tried.cost());
    table.add_row([rate.to_string(), accepted, tried.backlog.to_string(), pending, shipped, completed, cost]);
}

fn ms(times: &Histogram<u64>, quantile: f64) -> f64 {
    times.value_at_quantile(quantile) as f64 / 1000.0
}

/// Orders a second that the plain handler takes, its events published; nobody reads them yet.
async fn measure_plain(stage: &Stage) -> anyhow::Result<f64> {
    let address = plain::start(stage).await?;
    let mut rates = Vec::new();
    for round in 0..=3 {
        progress(&format!("the plain handler, round {round} of 3"));
        stage.forget_orders().await?;
        let length = Duration::from_secs(5);
        let outcome =
            load(address, CONNECTIONS as u64, length, |number| load::post("/api/orders", wish(number)?)).await?;
        outcome.expect_only(&[201])?;
        // The first round warms up.
        rates.extend((round > 0).then(|| outcome.rate()));
    }
    stage.forget_orders().await?;
    Ok(median(rates))
}

impl System {
    async fn start(stage: &Stage) -> anyhow::Result<Self> {
        let mut services = Vec::new();
        for service in ["users", "orders", "notifications"] {
            let ports = Ports::free()?;
            let mut settings = stage.settings(&ports).to_vec();
            if service == "notifications" {
                settings.extend(NO_WAITS);
            }
            let program = Program::start(&["serve", service], &settings)?;
            services.push((service, ports, program));
        }
        let mut measured = vec![
            Measured { name: "Postgres", id: stage.postgres.id()?, health: None },
            Measured { name: "NATS", id: stage.nats.id()?, health: None },
        ];
        for (name, ports, program) in &services {
            wait_until_ready(ports.health).await?;
            measured.push(Measured { name, id: program.id()?, health: Some(ports.health) });
        }
        Ok(Self { services, measured })
    }

    async fn stop(self) -> anyhow::Result<()> {
        for (_, _, program) in self.services {
            program.stop().await?;
        }
        Ok(())
    }

    /// Where orders are placed.
    fn orders(&self) -> anyhow::Result<SocketAddr> {
        let orders = self.services.iter().find(|(name, ..)| *name == "orders");
        Ok(orders.context("there is no orders service")?.1.address)
    }

    /// The most memory that each service has held, in megabytes.
    fn memory(&self) -> anyhow::Result<Vec<(&'static str, f64)>> {
        self.services.iter().map(|(name, _, program)| Ok((*name, highest_memory_of(program.id()?)?))).collect()
    }
}

/// Sends orders at this rate, whether earlier ones were answered or not as far as there are connections.
async fn attempt(stage: &Stage, system: &System, rate: u64) -> anyhow::Result<Try> {
    let mut listeners = JoinSet::new();
    for status in OrderStatus::ALL {
        let mut heard = stage.bus.client.subscribe(status.subject()).await?;
        listeners.spawn(async move {
            let clock = Clock::real(1.0);
            let mut times = Histogram::new_with_bounds(1, 60_000_000, 3)?;
            while let Ok(Some(message)) = tokio::time::timeout(Duration::from_secs(1), heard.next()).await {
                let order: Order = serde_json::from_slice(&message.payload)?;
                let took = (clock.now() - order.timestamp).num_microseconds().unwrap_or(i64::MAX);
                times.saturating_record(u64::try_from(took).unwrap_or(0));
            }
            anyhow::Ok((status, times))
        });
    }
    let (address, before) = (system.orders()?, Used::now(&system.measured).await?);
    let offered =
        load::offer(address, rate as f64, LENGTH, CONNECTIONS, |number| load::post("/api/orders", wish(number)?));
    let offered = offered.await?;
    offered.expect_all(201)?;
    let accepted = offered.outcome.rate();
    let at_end = Used::now(&system.measured).await?;
    let backlog = stage.backlog().await?;
    let mut times = [(); 3].map(|()| Histogram::new_with_bounds(1, 60_000_000, 3));
    while let Some(heard) = listeners.join_next().await {
        let (status, heard) = heard??;
        times[status as usize] = Ok(heard);
    }
    let [pending, shipped, completed] = times;
    stage.wait_until_level().await?;
    let used = Used::now(&system.measured).await?;
    let orders = accepted * LENGTH.as_secs_f64();
    let costs = used.processes_since(&before).into_iter().map(|(name, seconds)| (name, seconds * 1000.0 / orders));
    let (task, share) = at_end.busiest_task_since(&before).context("no task has been busy")?;
    Ok(Try {
        accepted,
        backlog,
        times: [pending?, shipped?, completed?],
        costs: costs.collect(),
        busiest: (task.to_owned(), share),
    })
}
