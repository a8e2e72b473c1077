//! A thousand people who watch their own events (`/api/me/live`) while a thousand orders a second are placed: how long an
//! event takes to its viewer, compared with a subscriber of NATS, and the memory and processor time of the gateway per
//! viewer, compared with the same load without viewers. Then a thousand viewers of the system (`/api/live`).

#![expect(clippy::print_stdout, reason = "prints its results to a terminal")]

use anyhow::{Context, ensure};
use chrono::{DateTime, Utc};
use clap::Parser;
use futures::{StreamExt, TryStreamExt, stream};
use hdrhistogram::Histogram;
use http_body_util::{BodyExt, Empty};
use hyper::{Request, body::Bytes, body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use off_bench::{
    Front, Stage,
    front::NO_WAITS,
    load,
    proc::{memory_of, processor_time_of},
    report::{at_most, progress, table},
    stage::{DEVICES, PRODUCTS, order_body},
};
use off_events::{Order, headers::CE_TIME};
use off_kit::Clock;
use off_testkit::tokens;
use serde::Deserialize;
use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{net::TcpStream, task::JoinSet};

/// How long orders are placed in each round.
const LENGTH: Duration = Duration::from_secs(20);

/// Connections over which orders are placed.
const CONNECTIONS: usize = 64;

/// Viewers that connect at the same time.
const CONNECT_AT_ONCE: usize = 64;

/// Target: milliseconds from an event to its viewer (p99).
const TARGET_MS: f64 = 500.0;

#[derive(Debug, Parser)]
struct Options {
    /// Orders per second.
    #[arg(long, default_value_t = 1000)]
    rate: u32,
    /// Number of viewers, at most 1,000.
    #[arg(long, default_value_t = 1000)]
    viewers: i64,
}

/// An event, as viewers and subscribers of NATS get it.
#[derive(Debug, Deserialize)]
struct SeenEvent {
    subject: String,
    at: DateTime<Utc>,
}

/// How long events took, in microseconds.
#[derive(Debug, Clone)]
struct Delays {
    histogram: Arc<Mutex<Histogram<u64>>>,
    clock: Clock,
}

impl Delays {
    fn new() -> anyhow::Result<Self> {
        let histogram = Histogram::new_with_bounds(1, 60_000_000, 3)?;
        Ok(Self { histogram: Arc::new(Mutex::new(histogram)), clock: Clock::real(1.0) })
    }

    fn record(&self, at: DateTime<Utc>) {
        let micros = (self.clock.now() - at).num_microseconds().unwrap_or(i64::MAX);
        let mut histogram = self.histogram.lock().unwrap_or_else(PoisonError::into_inner);
        histogram.saturating_record(u64::try_from(micros).unwrap_or_default());
    }

    fn ms(&self, quantile: f64) -> f64 {
        let histogram = self.histogram.lock().unwrap_or_else(PoisonError::into_inner);
        histogram.value_at_quantile(quantile) as f64 / 1000.0
    }

    fn count(&self) -> u64 {
        self.histogram.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

/// The result of a round.
struct Round {
    name: &'static str,
    viewers: i64,
    /// Orders per second that were answered with 201.
    accepted: f64,
    /// From when an order was paid to the viewer, if viewers see that.
    to_viewer: Option<Delays>,
    /// The same to a subscriber of NATS.
    to_subscriber: Delays,
    /// Events, of any kind, that all viewers got in a second.
    per_second: f64,
    /// Share of a core that the gateway used.
    processor: f64,
    /// Megabytes of the gateway at the end.
    memory: f64,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    ensure!(options.viewers <= DEVICES, "there are {DEVICES} people");
    let stage = Stage::new().await?;
    stage.seed_data(PRODUCTS, DEVICES).await?;
    let system = System(Front::start(&stage, &["users", "orders", "billing", "notifications"], &NO_WAITS).await?);
    progress("warming up");
    system.offer(&stage, options.rate, Duration::from_secs(5)).await?;
    let mut rounds = Vec::new();
    for (name, path) in
        [("no viewers", None), ("of their own events", Some("/api/me/live")), ("of the system", Some("/api/live"))]
    {
        progress(name);
        rounds.push(system.measure(&stage, &options, name, path).await?);
    }
    progress("");
    print(&options, &rounds);
    system.0.stop().await?;
    stage.end().await
}

/// The services, and a gateway in front of them.
struct System(Front);

impl System {
    /// Places orders at the orders service, so that the gateway only serves its viewers.
    async fn offer(&self, stage: &Stage, rate: u32, length: Duration) -> anyhow::Result<f64> {
        let order = |number| load::post("/api/orders", order_body(number)?);
        let offered = load::offer(self.0.address("orders")?, rate.into(), length, CONNECTIONS, order).await?;
        offered.expect_all(201)?;
        let accepted = offered.outcome.rate();
        stage.wait_until_drained().await?;
        Ok(accepted)
    }

    async fn measure(
        &self,
        stage: &Stage,
        options: &Options,
        name: &'static str,
        path: Option<&str>,
    ) -> anyhow::Result<Round> {
        let (gateway, address) = (self.0.id("gateway")?, self.0.address("gateway")?);
        let viewers = if path.is_some() { options.viewers } else { 0 };
        let (to_viewer, to_subscriber, events) = (Delays::new()?, Delays::new()?, Arc::new(AtomicU64::new(0)));
        let connected = stream::iter(1..=viewers).map(|person| connect(address, path, person));
        let bodies: Vec<Incoming> = connected.buffer_unordered(CONNECT_AT_ONCE).try_collect().await?;
        let mut tasks = JoinSet::new();
        for body in bodies {
            tasks.spawn(view(body, to_viewer.clone(), events.clone()));
        }
        let mut messages = stage.bus.client.subscribe(Order::PAID).await?;
        let delays = to_subscriber.clone();
        tasks.spawn(async move {
            while let Some(message) = messages.next().await {
                let time = message.headers.as_ref().and_then(|headers| headers.get(CE_TIME));
                if let Some(at) = time.and_then(|time| time.as_str().parse().ok()) {
                    delays.record(at);
                }
            }
            Ok(())
        });
        let (before, first) = (processor_time_of(gateway)?, events.load(Ordering::Relaxed));
        let started = tokio::time::Instant::now();
        let accepted = self.offer(stage, options.rate, LENGTH).await?;
        let seconds = started.elapsed().as_secs_f64();
        let processor = (processor_time_of(gateway)? - before) / seconds;
        let per_second = (events.load(Ordering::Relaxed) - first) as f64 / seconds;
        let memory = memory_of(gateway)?;
        if let Some(ended) = tasks.try_join_next() {
            ended??;
            anyhow::bail!("a viewer was disconnected");
        }
        let to_viewer = (to_viewer.count() > 0).then_some(to_viewer);
        Ok(Round { name, viewers, accepted, to_viewer, to_subscriber, per_second, processor, memory })
    }
}

/// Begins a stream of server-sent events as a person; returns its body.
async fn connect(address: SocketAddr, path: Option<&str>, person: i64) -> anyhow::Result<Incoming> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = Request::get(path.context("no path")?)
        .header("host", "localhost")
        .header("authorization", format!("Bearer {}", tokens::person(person)))
        .body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await?;
    ensure!(response.status().is_success(), "a stream was answered with {}", response.status());
    // The sender must live as long as the stream.
    tokio::spawn(async move {
        let _sender = sender;
        std::future::pending::<()>().await;
    });
    Ok(response.into_body())
}

/// Reads a stream of server-sent events until it ends.
async fn view(mut body: Incoming, delays: Delays, events: Arc<AtomicU64>) -> anyhow::Result<()> {
    let mut text = Vec::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            text.extend_from_slice(&data);
        }
        while let Some(end) = text.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = text.drain(..=end).collect();
            let Some(data) = line.strip_prefix(b"data:") else { continue };
            events.fetch_add(1, Ordering::Relaxed);
            // The state of the system is no event.
            if let Ok(event) = serde_json::from_slice::<SeenEvent>(data)
                && event.subject == Order::PAID
            {
                delays.record(event.at);
            }
        }
    }
    Ok(())
}

fn print(options: &Options, rounds: &[Round]) {
    let mut table = table(&[
        "viewers",
        "orders/s",
        "events/s to all",
        "paid to viewer p50 / p99 ms",
        "paid to NATS subscriber p50 / p99 ms",
        "gateway cores",
        "gateway MB",
    ]);
    let times = |delays: &Delays| format!("{:.1} / {:.1}", delays.ms(0.5), delays.ms(0.99));
    for round in rounds {
        table.add_row([
            format!("{} {}", round.viewers, round.name),
            format!("{:.0}", round.accepted),
            format!("{:.0}", round.per_second),
            round.to_viewer.as_ref().map_or_else(String::new, times),
            times(&round.to_subscriber),
            format!("{:.3}", round.processor),
            format!("{:.1}", round.memory),
        ]);
    }
    println!("{table}\n");
    let [alone, own, system] = rounds else { return };
    if let Some(delays) = &own.to_viewer {
        let name = format!("p99 from an event to its viewer, {} viewers", options.viewers);
        at_most(&name, delays.ms(0.99), TARGET_MS, "ms");
    }
    for round in [own, system] {
        let viewers = round.viewers as f64;
        println!(
            "a viewer {}: {:.1} KB of memory, {:.3} ms of processor time a second",
            round.name,
            (round.memory - alone.memory) * 1000.0 / viewers,
            (round.processor - alone.processor) * 1000.0 / viewers,
        );
    }
}
