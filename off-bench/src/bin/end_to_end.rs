//! An order end to end: `POST`, payment, supplier and delivery without waits, shelf. Finds the highest rate at which the
//! backlog does not grow, then measures at half that rate how long an order takes to each status. The services run as
//! separate processes, so that the processor time of each can be measured.

#![expect(clippy::print_stdout, reason = "prints its results to a terminal")]

use anyhow::Context;
use clap::Parser;
use futures::StreamExt;
use hdrhistogram::Histogram;
use off_bench::{
    Stage,
    front::NO_WAITS,
    load, plain,
    proc::highest_memory_of,
    program::{start_off, stop},
    report::{at_most, median, progress, ratio, table},
    stage::{DEVICES, PRODUCTS, Ports, order_body, wait_until_ready},
    usage::{Measured, Usage},
};
use off_events::{Order, OrderStatus};
use off_kit::Clock;
use off_testkit::Process;
use std::{net::SocketAddr, time::Duration};
use tokio::task::JoinSet;

/// How long each rate is offered.
const LENGTH: Duration = Duration::from_secs(15);

/// Connections over which a rate is offered.
const CONNECTIONS: usize = 64;

/// Increase of the rate from one attempt to the next, in orders per second.
const STEP: u64 = 500;

/// The services keep up with a rate while the backlog is smaller than the orders of this many seconds.
const MAX_BACKLOG_SECONDS: f64 = 0.5;

/// Targets: orders per second, milliseconds from `POST` to `orders.pending` (p99), processor time of an order in
/// milliseconds, and the busiest task's share of a core.
const TARGET_RATE: f64 = 6000.0;
const TARGET_MS_TO_PENDING: f64 = 40.0;
const TARGET_MS_PER_ORDER: f64 = 0.3;
const TARGET_CORE_SHARE: f64 = 0.5;

/// The statuses of an order that is delivered.
const STATUSES: [OrderStatus; 4] =
    [OrderStatus::Pending, OrderStatus::Paid, OrderStatus::Shipped, OrderStatus::Completed];

/// The services that process an order, and all measured processes, including Postgres and NATS.
struct System {
    services: Vec<(&'static str, Ports, Process)>,
    measured: Vec<Measured>,
}

/// Result of one rate.
struct Measurement {
    /// Orders per second that were answered with 201.
    accepted: f64,
    /// Backlog of all consumers and the outbox at the end of the load.
    backlog: u64,
    /// Microseconds from `POST` to each status.
    times: [Histogram<u64>; 4],
    /// Processor time per order in milliseconds, by process.
    costs: Vec<(&'static str, f64)>,
    /// The task that was polled most, and its share of a core.
    busiest: (String, f64),
}

impl Measurement {
    fn cost(&self) -> f64 {
        self.costs.iter().map(|(_, cost)| cost).sum()
    }

    fn print_costs(&self, rate: u64) {
        let costs: Vec<String> = self.costs.iter().map(|(name, cost)| format!("{name} {cost:.3}")).collect();
        println!("\nprocessor time per order at {rate} orders per second, in ms: {}", costs.join(", "));
        let (task, share) = &self.busiest;
        println!("the busiest task at this rate: {task}, {share:.2} of a core");
    }
}

#[derive(Debug, Parser)]
struct Options {
    /// Offer only these rates, in orders per second. Without it, the rate is increased until the backlog grows.
    #[arg(long, value_name = "N")]
    rate: Vec<u64>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let stage = Stage::new().await?;
    stage.seed_data(PRODUCTS, DEVICES).await?;
    if options.rate.is_empty() { find_highest(stage).await } else { measure_rates(stage, &options.rate).await }
}

fn new_table() -> comfy_table::Table {
    table(&[
        "orders/s",
        "accepted",
        "backlog",
        "pending p50/p99 ms",
        "paid",
        "shipped",
        "completed",
        "processor ms/order",
    ])
}

async fn measure_rates(stage: Stage, rates: &[u64]) -> anyhow::Result<()> {
    let system = System::start(&stage).await?;
    measure_rate(&stage, &system, STEP).await?;
    let mut table = new_table();
    for &rate in rates {
        progress(&format!("{rate} orders per second"));
        let measured = measure_rate(&stage, &system, rate).await?;
        add_row(&mut table, rate, &measured);
        measured.print_costs(rate);
    }
    println!("{table}");
    system.stop().await?;
    stage.end().await
}

async fn find_highest(stage: Stage) -> anyhow::Result<()> {
    let plain = measure_plain(&stage).await?;
    let system = System::start(&stage).await?;
    measure_rate(&stage, &system, STEP).await?;
    let mut table = new_table();
    let (mut best, mut at_best) = (0, None);
    for rate in (1..).map(|step| step * STEP) {
        progress(&format!("{rate} orders per second"));
        let measured = measure_rate(&stage, &system, rate).await?;
        let max_backlog = MAX_BACKLOG_SECONDS * rate as f64;
        let keeps_up = measured.accepted >= 0.98 * rate as f64 && (measured.backlog as f64) < max_backlog;
        add_row(&mut table, rate, &measured);
        if !keeps_up {
            break;
        }
        (best, at_best) = (rate, Some(measured));
    }
    let at_best = at_best.context("the backlog grows even at the lowest rate")?;
    progress(&format!("{} orders per second", best / 2));
    let half = measure_rate(&stage, &system, (best / 2).max(1)).await?;
    add_row(&mut table, best / 2, &half);
    progress("");
    println!("{table}\n");
    at_best.print_costs(best);
    let memory: Vec<String> = system.memory()?.iter().map(|(name, memory)| format!("{name} {memory:.0}")).collect();
    println!("peak memory of each service, in MB: {}", memory.join(", "));
    println!("the plain handler alone accepts {plain:.0} orders/s in this run");
    ratio("highest rate without growing backlog, against that", best as f64 / plain, 1.5);
    ratio("highest rate without growing backlog, against 6,000/s", best as f64 / TARGET_RATE, 1.0);
    at_most("p99 from POST to orders.pending at half that rate", ms(&half.times[0], 0.99), TARGET_MS_TO_PENDING, "ms");
    at_most("processor time per order, without the load generator", at_best.cost(), TARGET_MS_PER_ORDER, "ms");
    at_most("the busiest task's share of a core", at_best.busiest.1, TARGET_CORE_SHARE, "");
    system.stop().await?;
    stage.end().await
}

fn add_row(table: &mut comfy_table::Table, rate: u64, measured: &Measurement) {
    let [pending, paid, shipped, completed] =
        measured.times.each_ref().map(|times| format!("{:.1} / {:.1}", ms(times, 0.5), ms(times, 0.99)));
    let accepted = format!("{:.0}", measured.accepted);
    let cost = format!("{:.3}", measured.cost());
    table.add_row([rate.to_string(), accepted, measured.backlog.to_string(), pending, paid, shipped, completed, cost]);
}

fn ms(times: &Histogram<u64>, quantile: f64) -> f64 {
    times.value_at_quantile(quantile) as f64 / 1000.0
}

/// Orders per second that the plain handler accepts. Its events are published, but no service consumes them yet.
async fn measure_plain(stage: &Stage) -> anyhow::Result<f64> {
    let address = plain::start(stage).await?;
    let mut rates = Vec::new();
    for round in 0..=3 {
        progress(&format!("the plain handler, round {round} of 3"));
        stage.delete_orders().await?;
        let length = Duration::from_secs(5);
        let outcome =
            load(address, CONNECTIONS as u64, length, |number| load::post("/api/orders", order_body(number)?)).await?;
        outcome.expect_only(&[201])?;
        // The first round warms up.
        rates.extend((round > 0).then(|| outcome.rate()));
    }
    stage.delete_orders().await?;
    Ok(median(rates))
}

impl System {
    async fn start(stage: &Stage) -> anyhow::Result<Self> {
        let mut services = Vec::new();
        for service in ["users", "orders", "billing", "notifications"] {
            let ports = Ports::free()?;
            let mut settings = stage.settings(&ports).to_vec();
            if service == "notifications" {
                settings.extend(NO_WAITS);
            }
            let program = start_off(&["serve", service], &settings)?;
            services.push((service, ports, program));
        }
        let mut measured = vec![
            Measured { name: "Postgres", id: stage.postgres.id()?, health: None },
            Measured { name: "NATS", id: stage.nats.id()?, health: None },
        ];
        for (name, ports, program) in &services {
            wait_until_ready(ports.health).await?;
            measured.push(Measured { name, id: program.pid()?, health: Some(ports.health) });
        }
        Ok(Self { services, measured })
    }

    async fn stop(self) -> anyhow::Result<()> {
        for (_, _, program) in self.services {
            stop(program).await?;
        }
        Ok(())
    }

    /// Address of the orders service.
    fn orders(&self) -> anyhow::Result<SocketAddr> {
        let orders = self.services.iter().find(|(name, ..)| *name == "orders");
        Ok(orders.context("there is no orders service")?.1.address)
    }

    /// Peak memory of each service, in megabytes.
    fn memory(&self) -> anyhow::Result<Vec<(&'static str, f64)>> {
        self.services.iter().map(|(name, _, program)| Ok((*name, highest_memory_of(program.pid()?)?))).collect()
    }
}

/// Sends orders at this rate in an open loop and measures the result.
async fn measure_rate(stage: &Stage, system: &System, rate: u64) -> anyhow::Result<Measurement> {
    let mut subscribers = JoinSet::new();
    for (index, status) in STATUSES.into_iter().enumerate() {
        let mut messages = stage.bus.client.subscribe(status.subject()).await?;
        subscribers.spawn(async move {
            let clock = Clock::real(1.0);
            let mut times = Histogram::new_with_bounds(1, 60_000_000, 3)?;
            while let Ok(Some(message)) = tokio::time::timeout(Duration::from_secs(1), messages.next()).await {
                let order: Order = serde_json::from_slice(&message.payload)?;
                let took = (clock.now() - order.timestamp).num_microseconds().unwrap_or(i64::MAX);
                times.saturating_record(u64::try_from(took).unwrap_or(0));
            }
            anyhow::Ok((index, times))
        });
    }
    let (address, before) = (system.orders()?, Usage::now(&system.measured).await?);
    let offered =
        load::offer(address, rate as f64, LENGTH, CONNECTIONS, |number| load::post("/api/orders", order_body(number)?));
    let offered = offered.await?;
    offered.expect_all(201)?;
    let accepted = offered.outcome.rate();
    let at_end = Usage::now(&system.measured).await?;
    let backlog = stage.backlog().await?;
    let mut times = STATUSES.map(|_| Histogram::new_with_bounds(1, 60_000_000, 3));
    while let Some(ended) = subscribers.join_next().await {
        let (index, histogram) = ended??;
        times[index] = Ok(histogram);
    }
    let [pending, paid, shipped, completed] = times;
    stage.wait_until_drained().await?;
    let usage = Usage::now(&system.measured).await?;
    let orders = accepted * LENGTH.as_secs_f64();
    let costs = usage.processes_since(&before).into_iter().map(|(name, seconds)| (name, seconds * 1000.0 / orders));
    let (task, share) = at_end.busiest_task_since(&before).context("the metrics show no busy task")?;
    Ok(Measurement {
        accepted,
        backlog,
        times: [pending?, paid?, shipped?, completed?],
        costs: costs.collect(),
        busiest: (task.to_owned(), share),
    })
}
