//! Latency of `POST /api/orders` and `orders.random` with ten million stored orders, a million devices and a million
//! products, compared with a thousand of each. Both systems run at the same time.

#![expect(clippy::print_stdout, reason = "prints its results to a terminal")]

use anyhow::Context;
use futures::StreamExt;
use hdrhistogram::Histogram;
use off_bench::{
    Stage, load,
    report::{at_most, median, progress, table},
    stage::barcode,
    store,
};
use off_events::ORDERS_RANDOM;
use off_kit::Running;
use std::time::Duration;
use tokio::time::{Instant, timeout};

const ROUNDS: usize = 5;
const LENGTH: Duration = Duration::from_secs(4);

/// Orders that one statement inserts.
const INSERT_BATCH: i64 = 500_000;

/// A system with a given number of orders, devices and products.
struct System {
    stage: Stage,
    orders: Running,
    users: Running,
    devices: i64,
    products: i64,
    /// Latencies of each round, in milliseconds.
    post_p50: Vec<f64>,
    post_p99: Vec<f64>,
    random_p50: Vec<f64>,
    random_p99: Vec<f64>,
}

impl System {
    async fn new(orders: i64, devices: i64, products: i64) -> anyhow::Result<Self> {
        let stage = Stage::new().await?;
        stage.seed_data(products, devices).await?;
        for first in (0..orders).step_by(usize::try_from(INSERT_BATCH)?) {
            progress(&format!("{first} of {orders} orders are stored"));
            store::store_completed(&stage.db, first, INSERT_BATCH.min(orders - first), devices, products).await?;
        }
        store::advance_checkpoints(&stage.db).await?;
        store::vacuum(&stage.db).await?;
        store::checkpoint(&stage.db).await?;
        let (orders, users) = (stage.start_orders().await?, stage.start_users().await?);
        let (post_p50, post_p99, random_p50, random_p99) = (vec![], vec![], vec![], vec![]);
        Ok(Self { stage, orders, users, devices, products, post_p50, post_p99, random_p50, random_p99 })
    }

    /// Measures one round of both operations.
    async fn measure(&mut self) -> anyhow::Result<()> {
        let (devices, products) = (self.devices, self.products);
        let posted = load(self.orders.addresses().api, 1, LENGTH, move |number| {
            // A large stride, so that consecutive orders are for unrelated devices and products.
            let number = i64::try_from(number)? * 7_919;
            let (ssd, barcode) = (1 + number % devices, barcode(1 + number % products));
            load::post("/api/orders", format!(r#"{{"ssd_id":{ssd},"barcode":"{barcode}","quantity":2}}"#))
        });
        let posted = posted.await?;
        posted.expect_only(&[201])?;
        self.post_p50.push(posted.ms(0.5));
        self.post_p99.push(posted.ms(0.99));
        let random = self.request_random().await?;
        self.random_p50.push(random.value_at_quantile(0.5) as f64 / 1000.0);
        self.random_p99.push(random.value_at_quantile(0.99) as f64 / 1000.0);
        Ok(())
    }

    /// Requests `orders.random` repeatedly; returns the microseconds until both services have responded.
    async fn request_random(&self) -> anyhow::Result<Histogram<u64>> {
        let client = &self.stage.bus.client;
        let inbox = client.new_inbox();
        let mut responses = client.subscribe(inbox.clone()).await?;
        let mut times = Histogram::new_with_bounds(1, 60_000_000, 3)?;
        let started = Instant::now();
        while started.elapsed() < LENGTH {
            let sent = Instant::now();
            client.publish_with_reply(ORDERS_RANDOM, inbox.clone(), "".into()).await?;
            for _ in 0..2 {
                timeout(Duration::from_secs(3), responses.next()).await.context("no response to orders.random")?;
            }
            times.saturating_record(u64::try_from(sent.elapsed().as_micros())?);
        }
        Ok(times)
    }

    async fn end(self) -> anyhow::Result<()> {
        self.orders.stop().await?;
        self.users.stop().await?;
        self.stage.end().await
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut small = System::new(1000, 1000, 1000).await?;
    let mut large = System::new(10_000_000, 1_000_000, 1_000_000).await?;
    progress("warming up");
    for system in [&mut small, &mut large] {
        system.measure().await?;
        for rounds in [&mut system.post_p50, &mut system.post_p99, &mut system.random_p50, &mut system.random_p99] {
            rounds.clear();
        }
    }
    for round in 1..=ROUNDS {
        progress(&format!("round {round} of {ROUNDS}"));
        small.measure().await?;
        large.measure().await?;
    }
    progress("");
    let mut table = table(&["median of rounds, ms", "a thousand", "millions"]);
    let (p50, p99) = (format!("{ORDERS_RANDOM}, p50"), format!("{ORDERS_RANDOM}, p99"));
    let figures: [(&str, &[f64], &[f64]); 4] = [
        ("POST /api/orders, p50", &small.post_p50, &large.post_p50),
        ("POST /api/orders, p99", &small.post_p99, &large.post_p99),
        (&p50, &small.random_p50, &large.random_p50),
        (&p99, &small.random_p99, &large.random_p99),
    ];
    for (name, small, large) in figures {
        let [small, large] = [small, large].map(|rounds| format!("{:.2}", median(rounds.iter().copied())));
        table.add_row([name.to_owned(), small, large]);
    }
    println!("{table}\n");
    for (name, small, large) in figures {
        at_most(name, median(small.iter().zip(large).map(|(small, large)| large / small)), 1.2, "×");
    }
    small.end().await?;
    large.end().await
}
