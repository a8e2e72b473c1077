//! What `POST /api/orders` and `orders.random` take with ten million stored orders, a million devices and a million products,
//! against a thousand of each: two systems side by side.

#![expect(clippy::print_stdout, reason = "it talks to a person in a terminal")]

use anyhow::Context;
use futures::StreamExt;
use hdrhistogram::Histogram;
use off_bench::{
    Stage, load,
    report::{at_most, median, progress, table},
    stage::{Running, barcode},
};
use off_events::ORDERS_RANDOM;
use std::time::Duration;
use tokio::time::{Instant, timeout};

const ROUNDS: usize = 5;
const LENGTH: Duration = Duration::from_secs(4);

/// Orders that are stored with one statement.
const CHUNK: i64 = 500_000;

/// A system with so many orders, devices and products.
struct Grown {
    stage: Stage,
    orders: Running,
    users: Running,
    ssds: i64,
    products: i64,
    /// The latencies in milliseconds of each round.
    post_p50: Vec<f64>,
    post_p99: Vec<f64>,
    random_p50: Vec<f64>,
    random_p99: Vec<f64>,
}

impl Grown {
    async fn new(orders: i64, ssds: i64, products: i64) -> anyhow::Result<Self> {
        let stage = Stage::new().await?;
        stage.settle(products, ssds).await?;
        for first in (0..orders).step_by(usize::try_from(CHUNK)?) {
            progress(&format!("{first} of {orders} orders are stored"));
            stage.store_completed(first, CHUNK.min(orders - first), ssds, products).await?;
        }
        stage.pass_checkpoints().await?;
        sqlx::query("VACUUM ANALYZE").execute(&stage.db).await?;
        sqlx::query("CHECKPOINT").execute(&stage.db).await?;
        let (orders, users) = (stage.start_orders().await?, stage.start_users().await?);
        let (post_p50, post_p99, random_p50, random_p99) = (vec![], vec![], vec![], vec![]);
        Ok(Self { stage, orders, users, ssds, products, post_p50, post_p99, random_p50, random_p99 })
    }

    /// One round of each.
    async fn measure(&mut self) -> anyhow::Result<()> {
        let (ssds, products) = (self.ssds, self.products);
        let posted = load(self.orders.address, 1, LENGTH, move |number| {
            // Far from each other, as life is.
            let number = i64::try_from(number)? * 7_919;
            let (ssd, barcode) = (1 + number % ssds, barcode(1 + number % products));
            load::post("/api/orders", format!(r#"{{"ssd_id":{ssd},"barcode":"{barcode}","quantity":2}}"#))
        });
        let posted = posted.await?;
        posted.expect_only(&[201])?;
        self.post_p50.push(posted.ms(0.5));
        self.post_p99.push(posted.ms(0.99));
        let asked = self.ask().await?;
        self.random_p50.push(asked.value_at_quantile(0.5) as f64 / 1000.0);
        self.random_p99.push(asked.value_at_quantile(0.99) as f64 / 1000.0);
        Ok(())
    }

    /// Asks `orders.random` again and again; microseconds until both services have answered.
    async fn ask(&self) -> anyhow::Result<Histogram<u64>> {
        let client = &self.stage.bus.client;
        let inbox = client.new_inbox();
        let mut answers = client.subscribe(inbox.clone()).await?;
        let mut times = Histogram::new_with_bounds(1, 60_000_000, 3)?;
        let started = Instant::now();
        while started.elapsed() < LENGTH {
            let asked = Instant::now();
            client.publish_with_reply(ORDERS_RANDOM, inbox.clone(), "".into()).await?;
            for _ in 0..2 {
                timeout(Duration::from_secs(3), answers.next()).await.context("orders.random is not answered")?;
            }
            times.saturating_record(u64::try_from(asked.elapsed().as_micros())?);
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
    let mut small = Grown::new(1000, 1000, 1000).await?;
    let mut large = Grown::new(10_000_000, 1_000_000, 1_000_000).await?;
    progress("warming up");
    for grown in [&mut small, &mut large] {
        grown.measure().await?;
        for rounds in [&mut grown.post_p50, &mut grown.post_p99, &mut grown.random_p50, &mut grown.random_p99] {
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
    let figures: [(&str, &[f64], &[f64]); 4] = [
        ("POST /api/orders, p50", &small.post_p50, &large.post_p50),
        ("POST /api/orders, p99", &small.post_p99, &large.post_p99),
        ("orders.random, p50", &small.random_p50, &large.random_p50),
        ("orders.random, p99", &small.random_p99, &large.random_p99),
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
