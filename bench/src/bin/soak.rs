//! The whole way of orders at a steady rate for a long time: what each process holds should stay as it is, and every order
//! that was answered should have arrived in the end.

#![expect(clippy::print_stdout, reason = "it talks to a person in a terminal")]

use clap::Parser;
use off_bench::{
    Program, Stage, load,
    program::memory_of,
    report::{at_most, median},
    stage::{PRODUCTS, Ports, SSDS, wait_until_ready, wish},
};
use off_events::streams::CONSUMERS;
use std::time::Duration;
use tokio::time::Instant;

/// Enough that one is free whenever an order is due, also while a burst is being answered.
const CONNECTIONS: usize = 256;

/// How long each line stands for.
const MINUTE: Duration = Duration::from_mins(1);

/// Minutes that count for nothing: pools and caches are being filled.
const WARM_UP: usize = 5;

#[derive(Debug, Parser)]
struct Options {
    /// How many minutes.
    #[arg(long, default_value_t = 30, value_name = "N", value_parser = clap::value_parser!(u16).range(10..))]
    minutes: u16,
    /// Orders a second.
    #[arg(long, default_value_t = 1500.0, value_name = "N")]
    rate: f64,
}

/// What there is at a moment.
struct Look {
    /// Megabytes of each service.
    memory: [f64; 3],
    /// Open files and connections of each service.
    files: [usize; 3],
    nats_memory: f64,
    /// Connections to Postgres, and consumers of all streams.
    connections: i64,
    consumers: usize,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let stage = Stage::new().await?;
    stage.settle(PRODUCTS, SSDS).await?;
    let ports = [Ports::free()?, Ports::free()?, Ports::free()?];
    let mut services = Vec::new();
    for (name, ports) in ["users", "orders", "notifications"].into_iter().zip(&ports) {
        let waits = ["SUPPLIER_DELAY_MIN", "SUPPLIER_DELAY_MAX", "DELIVERY_DELAY_MIN", "DELIVERY_DELAY_MAX"];
        let settings: Vec<_> = stage.settings(ports).into_iter().chain(waits.map(|wait| (wait, "0s"))).collect();
        services.push(Program::start(&["serve", name], &settings)?);
    }
    for ports in &ports {
        wait_until_ready(ports.health).await?;
    }
    println!("minute   orders  p50/p99 ms   MB: users orders notifications nats   files   Postgres consumers");
    let mut looks = Vec::new();
    let (mut accepted, mut unsent) = (0, 0);
    for minute in 1..=options.minutes {
        let began = Instant::now();
        let offered = load::offer(ports[1].address, options.rate, MINUTE, CONNECTIONS, |number| {
            load::post("/api/orders", wish(number)?)
        });
        let offered = offered.await?;
        offered.expect_all(201)?;
        unsent += offered.unsent;
        let outcome = offered.outcome;
        accepted += outcome.count();
        let look = look(&stage, &services).await?;
        println!(
            "{minute:>6} {accepted:>8}  {:>4.1} / {:<5.1} {:>12.1} {:>6.1} {:>13.1} {:>4.0}   {:?} {:>8} {:>9}",
            outcome.ms(0.5),
            outcome.ms(0.99),
            look.memory[0],
            look.memory[1],
            look.memory[2],
            look.nats_memory,
            look.files,
            look.connections,
            look.consumers,
        );
        looks.push(look);
        anyhow::ensure!(began.elapsed() < 2 * MINUTE, "a minute took twice as long");
    }
    stage.wait_until_level().await?;
    let arrived: i64 = sqlx::query_scalar("SELECT count(*) FROM users.deliveries").fetch_one(&stage.db).await?;
    println!();
    let (earlier, later) = looks[WARM_UP..].split_at((looks.len() - WARM_UP) / 2);
    // Medians, so that a burst in one minute, or a quiet one, decides nothing.
    let grown = |held: fn(&Look, usize) -> f64, index| {
        let middle = |looks: &[Look]| median(looks.iter().map(|look| held(look, index)));
        (middle(earlier), middle(later))
    };
    for (index, name) in ["users", "orders", "notifications"].into_iter().enumerate() {
        let (before, after) = grown(|look, index| look.memory[index], index);
        at_most(&format!("memory of {name}, later half against earlier half"), after / before, 1.1, "×");
        let (before, after) = grown(|look, index| look.files[index] as f64, index);
        at_most(&format!("files and connections more of {name}"), after - before, 5.0, "");
    }
    let (before, after) = grown(|look, _| look.connections as f64, 0);
    at_most("connections to Postgres more", after - before, 2.0, "");
    let consumers = looks.iter().map(|look| look.consumers).max().unwrap_or_default();
    at_most("consumers at any time, of those declared", consumers as f64, CONSUMERS.len() as f64, "");
    at_most("orders due while every connection was taken", unsent as f64, 0.0, "");
    at_most("orders answered and not on their shelf", accepted as f64 - arrived as f64, 0.0, "");
    for service in services {
        service.stop().await?;
    }
    stage.end().await
}

async fn look(stage: &Stage, services: &[Program]) -> anyhow::Result<Look> {
    let (mut memory, mut files) = ([0.0; 3], [usize::MAX; 3]);
    for (index, service) in services.iter().enumerate() {
        memory[index] = service.memory()?;
    }
    // The load has just closed its connections; a service may need a moment to notice.
    for _ in 0..10 {
        for (index, service) in services.iter().enumerate() {
            files[index] = files[index].min(service.files()?);
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
    Ok(Look { memory, files, nats_memory, connections, consumers })
}
