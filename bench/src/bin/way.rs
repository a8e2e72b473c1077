//! The whole way of an order: `POST`, supplier and delivery without waits, shelf. Finds the highest rate at which
//! every queue stays level, then tells at half that rate how long an order takes to each state.

#![expect(clippy::print_stdout, reason = "it talks to a person in a terminal")]

use futures::StreamExt;
use hdrhistogram::Histogram;
use off_bench::{
    Stage, load, plain,
    report::{at_most, median, progress, ratio, table},
    stage::{PRODUCTS, Running, SSDS, start, wish},
};
use off_events::{Order, OrderStatus};
use off_kit::Clock;
use off_notifications_service::NotificationsService;
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
const RATE_HOPED_FOR: f64 = 5000.0;
const MS_TO_PENDING_HOPED_FOR: f64 = 50.0;

/// What came of a rate.
struct Try {
    /// Orders answered with 201 in a second.
    accepted: f64,
    /// What was left in all queues together at the end.
    backlog: u64,
    /// Milliseconds from `POST` to each state.
    times: [Histogram<u64>; 3],
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let stage = Stage::new().await?;
    stage.settle(PRODUCTS, SSDS).await?;
    let orders = stage.start_orders().await?;
    let plain = measure_plain(&stage).await?;
    let services = start_others(&stage).await?;

    attempt(&stage, orders.address, STEP).await?;
    let mut table = table(&["orders/s", "accepted", "left in queues", "pending p50/p99 ms", "shipped", "completed"]);
    let mut best = 0;
    for rate in (1..).map(|step| step * STEP) {
        progress(&format!("{rate} orders a second"));
        let tried = attempt(&stage, orders.address, rate).await?;
        let is_level = tried.accepted >= 0.98 * rate as f64 && (tried.backlog as f64) < LEVEL * rate as f64;
        add_row(&mut table, rate, &tried);
        if !is_level {
            break;
        }
        best = rate;
    }
    progress(&format!("{} orders a second", best / 2));
    let half = attempt(&stage, orders.address, (best / 2).max(1)).await?;
    add_row(&mut table, best / 2, &half);
    progress("");
    println!("{table}\n");
    println!("the plain handler alone takes {plain:.0} orders/s in this run");
    ratio("orders a second with all queues level, against that", best as f64 / plain, 1.5);
    ratio("orders a second with all queues level, against 5,000", best as f64 / RATE_HOPED_FOR, 1.0);
    at_most(
        "p99 from POST to orders.pending at half that rate",
        ms(&half.times[0], 0.99),
        MS_TO_PENDING_HOPED_FOR,
        "ms",
    );
    for service in services {
        service.stop().await?;
    }
    orders.stop().await?;
    stage.end().await
}

fn add_row(table: &mut comfy_table::Table, rate: u64, tried: &Try) {
    let [pending, shipped, completed] =
        tried.times.each_ref().map(|times| format!("{:.1} / {:.1}", ms(times, 0.5), ms(times, 0.99)));
    let accepted = format!("{:.0}", tried.accepted);
    table.add_row([rate.to_string(), accepted, tried.backlog.to_string(), pending, shipped, completed]);
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

/// The users service, and a notifications service whose suppliers and deliveries take no time.
async fn start_others(stage: &Stage) -> anyhow::Result<Vec<Running>> {
    let notifications = off_notifications_service::Config {
        bus: stage.bus_config(),
        supplier_delay_min: Duration::ZERO,
        supplier_delay_max: Duration::ZERO,
        delivery_delay_min: Duration::ZERO,
        delivery_delay_max: Duration::ZERO,
        seed: 0,
    };
    Ok(vec![stage.start_users().await?, start::<NotificationsService>(notifications).await?])
}

/// Sends orders at this rate, whether earlier ones were answered or not as far as there are connections.
async fn attempt(stage: &Stage, address: SocketAddr, rate: u64) -> anyhow::Result<Try> {
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
    let offered =
        load::offer(address, rate as f64, LENGTH, CONNECTIONS, |number| load::post("/api/orders", wish(number)?));
    let offered = offered.await?;
    offered.expect_all(201)?;
    let accepted = offered.outcome.rate();
    let backlog = stage.backlog().await?;
    let mut times = [(); 3].map(|()| Histogram::new_with_bounds(1, 60_000_000, 3));
    while let Some(heard) = listeners.join_next().await {
        let (status, heard) = heard??;
        times[status as usize] = Ok(heard);
    }
    let [pending, shipped, completed] = times;
    stage.wait_until_level().await?;
    Ok(Try { accepted, backlog, times: [pending?, shipped?, completed?] })
}
