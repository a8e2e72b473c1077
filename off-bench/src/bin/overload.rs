//! Overload: the offered rate is doubled repeatedly; throughput and latency of accepted orders should stay the same.
//! Then ten thousand idle connections, which should not affect throughput or latency.

#![expect(clippy::print_stdout, reason = "prints its results to a terminal")]

use comfy_table::Table;
use futures::{StreamExt, TryStreamExt, stream};
use off_bench::{
    Outcome, Stage, load,
    program::{start_off, stop},
    report::{at_most, progress, ratio, table},
    stage::{DEVICES, PRODUCTS, Ports, order_body, wait_until_ready},
};
use std::{net::SocketAddr, time::Duration};
use tokio::net::TcpStream;

const LENGTH: Duration = Duration::from_secs(8);

/// Connections of the closed loop that measures the capacity.
const CONNECTIONS: u64 = 64;

/// Requests that the open loop may have in flight. Requests that are due beyond that are not sent.
const MAX_IN_FLIGHT: usize = 6000;

/// Offered rates, relative to the capacity.
const LOAD_FACTORS: [f64; 4] = [0.5, 1.0, 2.0, 4.0];

/// Index of the full capacity in [`LOAD_FACTORS`].
const FULL_LOAD: usize = 1;

/// Idle connections.
const IDLE_CONNECTIONS: usize = 10_000;

/// Latency that accepted orders may have in the worst overload (p99), in milliseconds.
const MAX_P99_MS: f64 = 1000.0;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let stage = Stage::new().await?;
    stage.seed_data(PRODUCTS, DEVICES).await?;
    let ports = Ports::free()?;
    // A separate process, because ten thousand connections use up as many file descriptors in this one.
    let service = start_off(&["serve", "orders"], &stage.settings(&ports))?;
    let address = ports.address;
    wait_until_ready(ports.health).await?;

    progress("warming up");
    measure_capacity(address).await?;
    let capacity = measure_capacity(address).await?;
    stage.wait_until_published().await?;
    let (table, accepted) = offer_rates(&stage, address, capacity.rate()).await?;
    progress("ten thousand idle connections");
    let before = measure_capacity(address).await?;
    let idle = stream::iter(0..IDLE_CONNECTIONS).map(|_| TcpStream::connect(address)).buffer_unordered(100);
    let idle: Vec<TcpStream> = idle.try_collect().await?;
    let with_idle = measure_capacity(address).await?;
    drop(idle);
    progress("");
    println!("{table}\n");
    println!("{:.0} orders per second in a closed loop of {CONNECTIONS} connections\n", capacity.rate());
    print_targets(&accepted, &before, &with_idle);
    stop(service).await?;
    stage.end().await
}

/// Measures the capacity in a closed loop.
async fn measure_capacity(address: SocketAddr) -> anyhow::Result<Outcome> {
    let outcome = load(address, CONNECTIONS, LENGTH, |number| load::post("/api/orders", order_body(number)?)).await?;
    outcome.expect_only(&[201])?;
    Ok(outcome)
}

/// Offers each of [`LOAD_FACTORS`] times the capacity; returns the table of results, and the accepted orders of each.
async fn offer_rates(stage: &Stage, address: SocketAddr, capacity: f64) -> anyhow::Result<(Table, Vec<Outcome>)> {
    let mut table = table(&[
        "offered/s",
        "sent/s",
        "accepted/s",
        "rejected (503)/s",
        "no response",
        "accepted p50 / p99 ms",
        "rejected p99 ms",
    ]);
    let mut accepted = Vec::new();
    for part in LOAD_FACTORS {
        let rate = part * capacity;
        progress(&format!("{rate:.0} orders per second"));
        let order = |number| load::post("/api/orders", order_body(number)?);
        let offered = load::offer(address, rate, LENGTH, MAX_IN_FLIGHT, order);
        let offered = offered.await?;
        offered.outcome.expect_only(&[201, 503])?;
        let (admitted, rejected) = (offered.outcome.of(201), offered.outcome.of(503));
        table.add_row([
            format!("{rate:.0} ({part} ×)"),
            format!("{:.0}", offered.outcome.rate()),
            format!("{:.0}", admitted.rate()),
            format!("{:.0}", rejected.rate()),
            offered.unanswered.to_string(),
            format!("{:.1} / {:.1}", admitted.ms(0.5), admitted.ms(0.99)),
            format!("{:.1}", rejected.ms(0.99)),
        ]);
        accepted.push(admitted);
        stage.wait_until_published().await?;
    }
    Ok((table, accepted))
}

/// Prints the targets: accepted orders at each load, and the capacity before and beside idle connections.
fn print_targets(accepted: &[Outcome], before: &Outcome, with_idle: &Outcome) {
    let worst = accepted.iter().map(|admitted| admitted.ms(0.99)).fold(0.0, f64::max);
    at_most("p99 of accepted orders, worst case", worst, MAX_P99_MS, "ms");
    let (admitted, base) = (&accepted[FULL_LOAD + 1..], &accepted[FULL_LOAD]);
    for (admitted, part) in admitted.iter().zip(&LOAD_FACTORS[FULL_LOAD + 1..]) {
        ratio(&format!("accepted at {part} × capacity, against 1 ×"), admitted.rate() / base.rate(), 0.9);
    }
    ratio("throughput beside 10,000 idle connections", with_idle.rate() / before.rate(), 0.9);
    at_most("p99 beside them, against without", with_idle.ms(0.99) / before.ms(0.99), 1.25, "×");
}
