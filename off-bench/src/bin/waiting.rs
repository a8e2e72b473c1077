//! A hundred thousand orders that wait for their suppliers: memory and processor time of the notifications service, how
//! late each order is shipped, and whether a `kill -9` of the service loses orders.

#![expect(clippy::print_stdout, reason = "prints its results to a terminal")]

use anyhow::Context;
use chrono::{DateTime, Utc};
use futures::StreamExt;
use hdrhistogram::Histogram;
use off_bench::{
    Stage,
    proc::{memory_of, processor_time_of},
    program::{start_off, stop},
    report::{at_most, progress},
};
use off_events::{
    Money, Order, OrderId, OrderStatus, Quantity, ShipReply, ShipRequest, SsdId, UserId, headers, streams,
};
use off_kit::{Bus, Clock, bus::OutboundMessage};
use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::time::Instant;
use uuid::Uuid;

const ORDERS: usize = 100_000;

/// Messages that are published at once. The client blocks at 5,000 unacknowledged messages.
const BATCH: usize = 4000;

/// Range of the suppliers' waits. The minimum is long enough to publish all orders before the first is due.
const MIN_WAIT: &str = "60s";
const MAX_WAIT: &str = "120s";

/// Number of shipped orders after which the service is killed, and how long it is down.
const KILL_AFTER: usize = 60_000;
const DOWNTIME: Duration = Duration::from_secs(2);

/// How long the service is measured while all orders wait.
const MEASURED_TIME: Duration = Duration::from_secs(10);

/// Time without a shipped order after which the missing ones count as lost. Longer than the broker waits before it
/// redelivers messages that were in progress at the kill.
const IDLE_TIMEOUT: Duration = Duration::from_secs(45);

/// The `orders.shipped` events that were received.
struct Shipped {
    orders: HashSet<OrderId>,
    /// Time from the due time of an order to its `orders.shipped`, in milliseconds.
    lateness: Histogram<u64>,
    /// When the latest event was received.
    latest: Instant,
}

fn lock(shipped: &Mutex<Shipped>) -> MutexGuard<'_, Shipped> {
    shipped.lock().unwrap_or_else(PoisonError::into_inner)
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let stage = Stage::new().await?;
    let settings = [
        ("NATS_URL", &*stage.nats.url),
        ("HTTP_SERVICE_PORT", "0"),
        ("HEALTH_PORT", "0"),
        ("SUPPLIER_DELAY_MIN", MIN_WAIT),
        ("SUPPLIER_DELAY_MAX", MAX_WAIT),
        ("DELIVERY_DELAY_MIN", "1h"),
        ("DELIVERY_DELAY_MAX", "1h"),
    ];
    let mut service = start_off(&["serve", "notifications"], &settings)?;
    let shipped = record_shipped(&stage).await?;
    let shipping = tokio::spawn(ship_all(stage.bus.clone()));

    progress("publishing the orders");
    let started = Instant::now();
    let expected = publish_paid(&stage).await?;
    wait_for_schedules(&stage).await?;
    let published = started.elapsed();
    progress("all orders wait");
    let before = processor_time_of(service.pid()?)?;
    tokio::time::sleep(MEASURED_TIME).await;
    let idle = (processor_time_of(service.pid()?)? - before) / MEASURED_TIME.as_secs_f64() * 100.0;
    let memory = memory_of(service.pid()?)?;
    let is_empty = lock(&shipped).orders.is_empty();
    anyhow::ensure!(is_empty, "the first orders were due before all were published: this machine is too slow");

    while lock(&shipped).orders.len() < KILL_AFTER {
        show_progress(&shipped).await;
    }
    // Copied before the kill, whose delay must not count.
    let lateness = lock(&shipped).lateness.clone();
    service.kill().await?;
    tokio::time::sleep(DOWNTIME).await;
    let service = start_off(&["serve", "notifications"], &settings)?;
    while lock(&shipped).orders.len() < ORDERS && lock(&shipped).latest.elapsed() < IDLE_TIMEOUT {
        show_progress(&shipped).await;
    }
    progress("");
    let lost = expected.difference(&lock(&shipped).orders).count();
    println!("{ORDERS} orders published and scheduled after {:.1} s", published.as_secs_f64());
    at_most("memory of the notifications service while all wait", memory, 40.0, "MB");
    at_most("its processor time while all wait, of a core", idle, 3.0, "%");
    at_most("lateness, p99", lateness.value_at_quantile(0.99) as f64 / 1000.0, 1.0, "s");
    println!("lateness: p50 {} ms, highest {} ms", lateness.value_at_quantile(0.5), lateness.max());
    at_most("orders lost, with a kill -9 while they became due", lost as f64, 0.0, "orders");
    stop(service).await?;
    shipping.abort();
    stage.end().await
}

async fn show_progress(shipped: &Mutex<Shipped>) {
    progress(&format!("{} shipped", lock(shipped).orders.len()));
    tokio::time::sleep(Duration::from_millis(200)).await;
}

/// Records every order that is shipped from now on, and how late it is.
async fn record_shipped(stage: &Stage) -> anyhow::Result<Arc<Mutex<Shipped>>> {
    let lateness = Histogram::new_with_bounds(1, 600_000, 3)?;
    let shipped = Arc::new(Mutex::new(Shipped { orders: HashSet::new(), lateness, latest: Instant::now() }));
    let mut messages = stage.bus.client.subscribe(Order::SHIPPED).await?;
    stage.bus.client.flush().await?;
    let recorder = shipped.clone();
    tokio::spawn(async move {
        let clock = Clock::real(1.0);
        while let Some(message) = messages.next().await {
            let order: Order = serde_json::from_slice(&message.payload)?;
            let due = message.headers.as_ref().and_then(|map| map.get(headers::CE_TIME));
            let due = due.context("a message has no time")?;
            let late = clock.now() - due.as_str().parse::<DateTime<Utc>>()?;
            let mut shipped = lock(&recorder);
            if shipped.orders.insert(order.id) {
                shipped.lateness.saturating_record(u64::try_from(late.num_milliseconds()).unwrap_or(0));
                shipped.latest = Instant::now();
            }
        }
        anyhow::Ok(())
    });
    Ok(shipped)
}

/// Stands in for the orders service: ships all orders that are ready.
async fn ship_all(bus: Bus) -> anyhow::Result<()> {
    let mut requests = bus.client.subscribe(ShipRequest::SUBJECT).await?;
    while let Some(request) = requests.next().await {
        let ShipRequest { orders } = serde_json::from_slice(&request.payload)?;
        let reply = ShipReply { shipped: orders.into_iter().map(|order| order.id).collect() };
        let inbox = request.reply.context("a request has no reply subject")?;
        bus.client.publish(inbox, serde_json::to_vec(&reply)?.into()).await?;
    }
    Ok(())
}

/// Publishes `orders.paid` for all orders, like the billing service.
async fn publish_paid(stage: &Stage) -> anyhow::Result<HashSet<OrderId>> {
    let clock = Clock::real(1.0);
    let mut ids = HashSet::new();
    while ids.len() < ORDERS {
        let now = clock.now();
        let messages = (0..BATCH.min(ORDERS - ids.len())).map(|_| {
            let id = OrderId(Uuid::now_v7());
            let order = Order {
                id,
                ssd_id: SsdId(1),
                user_id: UserId(1),
                barcode: "2000000000015".parse()?,
                timestamp: now,
                quantity: Quantity::try_from(1)?,
                unit_price: Money::from_cents(299)?,
                total: Money::from_cents(299)?,
                status: OrderStatus::Paid,
                refusal: None,
            };
            anyhow::Ok((id, OutboundMessage::of("bench", &order, now, None)?))
        });
        let (batch, messages): (Vec<_>, Vec<_>) = messages.collect::<anyhow::Result<Vec<_>>>()?.into_iter().unzip();
        stage.bus.publish_all(messages).await.into_iter().collect::<Result<(), _>>()?;
        ids.extend(batch);
    }
    Ok(ids)
}

/// Waits until every order has its message schedule in the stream.
async fn wait_for_schedules(stage: &Stage) -> anyhow::Result<()> {
    let stream = stage.bus.jetstream.get_stream_no_info(streams::ORDERS.name).await?;
    let deadline = Instant::now() + Duration::from_mins(1);
    while stream.info_with_subjects(OrderStatus::Shipped.schedule_subjects()).await?.count().await < ORDERS {
        (Instant::now() < deadline).then_some(()).context("the message schedules are missing")?;
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    Ok(())
}
