//! A hundred thousand orders that wait at their suppliers: what that costs the notifications service, how late each is
//! shipped, and what a `kill -9` of the service loses.

#![expect(clippy::print_stdout, reason = "it talks to a person in a terminal")]

use anyhow::Context;
use chrono::{DateTime, Utc};
use futures::StreamExt;
use hdrhistogram::Histogram;
use off_bench::{
    Program, Stage,
    report::{at_most, progress},
};
use off_events::{Order, OrderId, OrderStatus, Quantity, SsdId, headers};
use off_kit::{Clock, bus::Outgoing};
use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::time::Instant;
use uuid::Uuid;

const ORDERS: usize = 100_000;

/// Published at once; the client stops for acknowledgements at 5,000.
const BATCH: usize = 4000;

/// Suppliers take between these; the first are due when all have been set.
const SHORTEST: &str = "60s";
const LONGEST: &str = "120s";

/// The service is killed when so many have been shipped, and is gone for so long.
const KILLED_AFTER: usize = 60_000;
const GONE_FOR: Duration = Duration::from_secs(2);

/// How long the service is watched while everything waits.
const IDLE_FOR: Duration = Duration::from_secs(10);

/// How long nothing may happen before the rest counts as lost: longer than what was in hand at a kill takes to come again.
const PATIENCE: Duration = Duration::from_secs(45);

/// What was heard of `orders.shipped`.
struct Heard {
    orders: HashSet<OrderId>,
    /// Milliseconds between when an order was due and when it was shipped.
    lateness: Histogram<u64>,
    latest: Instant,
}

fn lock(heard: &Mutex<Heard>) -> MutexGuard<'_, Heard> {
    heard.lock().unwrap_or_else(PoisonError::into_inner)
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let stage = Stage::new().await?;
    let settings = [
        ("NATS_URL", &*stage.nats.url),
        ("HTTP_SERVICE_PORT", "0"),
        ("HEALTH_PORT", "0"),
        ("SUPPLIER_DELAY_MIN", SHORTEST),
        ("SUPPLIER_DELAY_MAX", LONGEST),
        ("DELIVERY_DELAY_MIN", "1h"),
        ("DELIVERY_DELAY_MAX", "1h"),
    ];
    let service = Program::start(&["serve", "notifications"], &settings)?;
    let heard = hear(&stage).await?;

    progress("announcing the orders");
    let started = Instant::now();
    let expected = say_pending(&stage).await?;
    wait_for_waits(&stage).await?;
    let announced = started.elapsed();
    progress("all wait");
    let before = service.processor_time()?;
    tokio::time::sleep(IDLE_FOR).await;
    let idle = (service.processor_time()? - before) / IDLE_FOR.as_secs_f64() * 100.0;
    let memory = service.memory()?;
    anyhow::ensure!(lock(&heard).orders.is_empty(), "the first were due before all waited: this machine is too slow");

    while lock(&heard).orders.len() < KILLED_AFTER {
        show(&heard).await;
    }
    // What a dead service ships late says nothing of a living one.
    let lateness = lock(&heard).lateness.clone();
    service.kill().await?;
    tokio::time::sleep(GONE_FOR).await;
    let service = Program::start(&["serve", "notifications"], &settings)?;
    while lock(&heard).orders.len() < ORDERS && lock(&heard).latest.elapsed() < PATIENCE {
        show(&heard).await;
    }
    progress("");
    let lost = expected.difference(&lock(&heard).orders).count();
    println!("{ORDERS} orders announced and waiting after {:.1} s", announced.as_secs_f64());
    at_most("memory of the notifications service while all wait", memory, 40.0, "MB");
    at_most("its processor time while all wait, of a core", idle, 3.0, "%");
    at_most("lateness, p99", lateness.value_at_quantile(0.99) as f64 / 1000.0, 1.0, "s");
    println!("lateness: p50 {} ms, highest {} ms", lateness.value_at_quantile(0.5), lateness.max());
    at_most("orders lost, with a kill -9 of it while they became due", lost as f64, 0.0, "orders");
    service.stop().await?;
    stage.end().await
}

async fn show(heard: &Mutex<Heard>) {
    progress(&format!("{} shipped", lock(heard).orders.len()));
    tokio::time::sleep(Duration::from_millis(200)).await;
}

/// Notes every order that is shipped from now on, and how late.
async fn hear(stage: &Stage) -> anyhow::Result<Arc<Mutex<Heard>>> {
    let lateness = Histogram::new_with_bounds(1, 600_000, 3)?;
    let heard = Arc::new(Mutex::new(Heard { orders: HashSet::new(), lateness, latest: Instant::now() }));
    let mut shipped = stage.bus.client.subscribe(Order::SHIPPED).await?;
    stage.bus.client.flush().await?;
    let noting = heard.clone();
    tokio::spawn(async move {
        let clock = Clock::real(1.0);
        while let Some(message) = shipped.next().await {
            let order: Order = serde_json::from_slice(&message.payload)?;
            let due = message.headers.as_ref().and_then(|map| map.get(headers::CE_TIME)).context("no time")?;
            let late = clock.now() - due.as_str().parse::<DateTime<Utc>>()?;
            let mut heard = lock(&noting);
            if heard.orders.insert(order.id) {
                heard.lateness.saturating_record(u64::try_from(late.num_milliseconds()).unwrap_or(0));
                heard.latest = Instant::now();
            }
        }
        anyhow::Ok(())
    });
    Ok(heard)
}

/// Announces all orders as pending, as the orders service does.
async fn say_pending(stage: &Stage) -> anyhow::Result<HashSet<OrderId>> {
    let clock = Clock::real(1.0);
    let mut ids = HashSet::new();
    while ids.len() < ORDERS {
        let now = clock.now();
        let messages = (0..BATCH.min(ORDERS - ids.len())).map(|_| {
            let id = OrderId(Uuid::now_v7());
            let order = Order {
                id,
                ssd_id: SsdId(1),
                product_id: "2000000000015".parse()?,
                timestamp: now,
                quantity: Quantity::try_from(1)?,
                status: OrderStatus::Pending,
            };
            anyhow::Ok((id, Outgoing::of("bench", &order, now, None)?))
        });
        let (batch, messages): (Vec<_>, Vec<_>) = messages.collect::<anyhow::Result<Vec<_>>>()?.into_iter().unzip();
        stage.bus.publish_all(messages).await.into_iter().collect::<Result<(), _>>()?;
        ids.extend(batch);
    }
    Ok(ids)
}

/// Waits until each order has its wait in the stream.
async fn wait_for_waits(stage: &Stage) -> anyhow::Result<()> {
    let stream = stage.bus.jetstream.get_stream_no_info("ORDERS").await?;
    let deadline = Instant::now() + Duration::from_mins(1);
    while stream.info_with_subjects("orders.timer.shipped.*").await?.count().await < ORDERS {
        (Instant::now() < deadline).then_some(()).context("the waits are not set")?;
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    Ok(())
}
