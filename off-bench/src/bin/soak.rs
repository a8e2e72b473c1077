//! Orders end to end at a steady rate for a long time: memory, files and connections of each process should stay the
//! same, and every accepted order should be delivered in the end.

#![expect(clippy::print_stdout, reason = "prints its results to a terminal")]

use clap::Parser;
use off_bench::{
    Outcome, Stage, load,
    proc::{files_of, memory_of},
    program::{start_off, stop},
    report::{at_most, median},
    stage::{DEVICES, PRODUCTS, Ports, order_body, wait_until_ready},
    store,
};
use off_events::streams::CONSUMERS;
use off_testkit::Process;
use std::time::Duration;
use tokio::time::Instant;

/// Enough connections that one is idle whenever an order is due, even during a burst.
const CONNECTIONS: usize = 256;

/// Period of each line of output.
const MINUTE: Duration = Duration::from_mins(1);

/// Minutes that are not evaluated, while pools and caches fill.
const WARM_UP: usize = 5;

#[derive(Debug, Parser)]
struct Options {
    /// Length of the run, in minutes.
    #[arg(long, default_value_t = 30, value_name = "N", value_parser = clap::value_parser!(u16).range(10..))]
    minutes: u16,
    /// Orders per second.
    #[arg(long, default_value_t = 1500.0, value_name = "N")]
    rate: f64,
}

/// The services, in the order of the figures of a sample.
const SERVICES: [&str; 4] = ["users", "orders", "billing", "notifications"];

/// Resources in use at one moment.
struct Sample {
    /// Memory of each service, in megabytes.
    memory: [f64; 4],
    /// Open files and connections of each service.
    files: [usize; 4],
    /// Memory of nats-server, in megabytes.
    nats_memory: f64,
    /// Connections to Postgres.
    connections: i64,
    /// Consumers of all streams.
    consumers: usize,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let stage = Stage::new().await?;
    stage.seed_data(PRODUCTS, DEVICES).await?;
    let ports = [Ports::free()?, Ports::free()?, Ports::free()?, Ports::free()?];
    let mut services = Vec::new();
    for (name, ports) in SERVICES.into_iter().zip(&ports) {
        let waits = ["SUPPLIER_DELAY_MIN", "SUPPLIER_DELAY_MAX", "DELIVERY_DELAY_MIN", "DELIVERY_DELAY_MAX"];
        let settings: Vec<_> = stage.settings(ports).into_iter().chain(waits.map(|wait| (wait, "0s"))).collect();
        services.push(start_off(&["serve", name], &settings)?);
    }
    for ports in &ports {
        wait_until_ready(ports.health).await?;
    }
    println!("minute   orders  p50/p99 ms   MB: users orders billing notifications nats   files   Postgres consumers");
    let mut samples = Vec::new();
    let (mut accepted, mut unsent) = (0, 0);
    for minute in 1..=options.minutes {
        let began = Instant::now();
        let offered = load::offer(ports[1].address, options.rate, MINUTE, CONNECTIONS, |number| {
            load::post("/api/orders", order_body(number)?)
        });
        let offered = offered.await?;
        offered.expect_all(201)?;
        unsent += offered.unsent;
        let outcome = offered.outcome;
        accepted += outcome.count();
        let sample = take_sample(&stage, &services).await?;
        sample.print(minute, &outcome);
        samples.push(sample);
        anyhow::ensure!(began.elapsed() < 2 * MINUTE, "one minute of load took more than two minutes");
    }
    stage.wait_until_drained().await?;
    let delivered = store::count_deliveries(&stage.db).await?;
    println!();
    print_targets(&samples, accepted, delivered, unsent);
    for service in services {
        stop(service).await?;
    }
    stage.end().await
}

async fn take_sample(stage: &Stage, services: &[Process]) -> anyhow::Result<Sample> {
    let (mut memory, mut files) = ([0.0; 4], [usize::MAX; 4]);
    for (index, service) in services.iter().enumerate() {
        memory[index] = memory_of(service.pid()?)?;
    }
    // The load generator has just closed its connections. The minimum of ten samples gives the services time to notice.
    for _ in 0..10 {
        for (index, service) in services.iter().enumerate() {
            files[index] = files[index].min(files_of(service.pid()?)?);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let connections = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'";
    let connections: i64 = sqlx::query_scalar(connections).fetch_one(&stage.db).await?;
    let mut consumers = 0;
    for stream in off_events::streams::STREAMS {
        consumers += stage.bus.jetstream.get_stream(stream.name).await?.cached_info().state.consumer_count;
    }
    let nats_memory = memory_of(stage.nats.id()?)?;
    Ok(Sample { memory, files, nats_memory, connections, consumers })
}

impl Sample {
    /// Prints the line of a minute, with the responses of that minute.
    fn print(&self, minute: u16, outcome: &Outcome) {
        println!(
            "{minute:>6} {:>8}  {:>4.1} / {:<5.1} {:>12.1} {:>6.1} {:>7.1} {:>13.1} {:>4.0}   {:?} {:>8} {:>9}",
            outcome.count(),
            outcome.ms(0.5),
            outcome.ms(0.99),
            self.memory[0],
            self.memory[1],
            self.memory[2],
            self.memory[3],
            self.nats_memory,
            self.files,
            self.connections,
            self.consumers,
        );
    }
}

/// Prints the targets, which compare the later half of the run with the earlier.
fn print_targets(samples: &[Sample], accepted: u64, delivered: i64, unsent: u64) {
    let (earlier, later) = samples[WARM_UP..].split_at((samples.len() - WARM_UP) / 2);
    // Medians, so that a single unusual minute has no effect.
    let earlier_and_later = |figure: fn(&Sample, usize) -> f64, index| {
        let median_of = |samples: &[Sample]| median(samples.iter().map(|sample| figure(sample, index)));
        (median_of(earlier), median_of(later))
    };
    for (index, name) in SERVICES.into_iter().enumerate() {
        let (before, after) = earlier_and_later(|sample, index| sample.memory[index], index);
        at_most(&format!("memory of {name}, later half against earlier half"), after / before, 1.1, "×");
        let (before, after) = earlier_and_later(|sample, index| sample.files[index] as f64, index);
        at_most(&format!("growth of files and connections of {name}"), after - before, 5.0, "");
    }
    let (before, after) = earlier_and_later(|sample, _| sample.connections as f64, 0);
    at_most("growth of connections to Postgres", after - before, 2.0, "");
    let consumers = samples.iter().map(|sample| sample.consumers).max().unwrap_or_default();
    at_most("consumers at any time, of those declared", consumers as f64, CONSUMERS.len() as f64, "");
    at_most("orders due while all connections were busy", unsent as f64, 0.0, "");
    at_most("orders accepted and not delivered", accepted as f64 - delivered as f64, 0.0, "");
}
