//! Simulated clients that place orders and devices that report consumption. All record what they do in the journal.

use crate::{
    fault::Link,
    journal::{Journal, Outcome, Request},
    parts::Parts,
    store,
    tokens::Tokens,
};
use anyhow::Context;
use off_events::{Barcode, Quantity, SsdId, StockConsumed};
use off_kit::{Bus, Clock, backoff::Backoff, bus::OutboundMessage};
use rand::{RngExt, SeedableRng, seq::IndexedRandom};
use rand_chacha::ChaCha8Rng;
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::{Semaphore, watch},
    task::JoinSet,
    time::Instant,
};
use uuid::Uuid;

/// Registered households, with two devices each.
const HOUSEHOLDS: u64 = 20;

/// Different products that are ordered and consumed.
const PRODUCTS: i64 = 40;

/// How long a client waits for a response.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(4);

/// Orders and reports that may be in flight at once.
const MAX_CONCURRENT: usize = 4000;

/// One in so many orders is not retried when it gets no response.
const NOT_RETRIED_EVERY: u64 = 20;

/// One in so many orders is sent again after its response.
const REPEATED_EVERY: u64 = 7;

/// Interval at which due orders and reports are sent, regardless of outstanding responses.
const TICK: Duration = Duration::from_millis(10);

/// Reports for each order.
const REPORTS_PER_ORDER: f64 = 0.5;

/// How far the devices' clocks are off while they are skewed.
const CLOCK_SKEW: chrono::TimeDelta = chrono::TimeDelta::hours(7);

/// All clients and devices. Clones share their state.
#[derive(Debug, Clone)]
pub(crate) struct Clients(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    journal: Arc<Journal>,
    orders_url: String,
    client: Client,
    tokens: Tokens,
    bus: Bus,
    clock: Clock,
    seed: u64,
    devices: Vec<SsdId>,
    barcodes: Vec<Barcode>,
    /// Incremented whenever all clients drop their connections.
    disconnects: watch::Sender<u64>,
    are_clocks_skewed: AtomicBool,
    /// The load has ended: orders in flight are retried only a few more times.
    is_draining: AtomicBool,
    /// Limits the orders and reports in flight.
    permits: Semaphore,
}

impl Clients {
    /// Registers all households over the API.
    pub(crate) async fn register(
        parts: &Parts,
        secrets: &Path,
        journal: Arc<Journal>,
        clock: Clock,
        seed: u64,
    ) -> anyhow::Result<Self> {
        // Fails if a provider is installed already, which is the same one.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder().timeout(ANSWER_TIMEOUT).no_proxy().build()?;
        let url = parts.url(Link::FromClients);
        let tokens = Tokens::start(client.clone(), &url, secrets).await?;
        let mut devices = Vec::new();
        for number in 0..HOUSEHOLDS {
            devices.extend(register_household(&client, &url, &tokens, number).await?);
        }
        let barcodes = store::find_barcodes(&parts.db, PRODUCTS).await?;
        let barcodes = barcodes.iter().map(|barcode| Ok(barcode.parse()?)).collect::<anyhow::Result<_>>()?;
        Ok(Self(Arc::new(Shared {
            journal,
            orders_url: format!("{url}/api/orders"),
            client,
            tokens,
            bus: parts.bus.clone(),
            clock,
            seed,
            devices,
            barcodes,
            disconnects: watch::Sender::new(0),
            are_clocks_skewed: AtomicBool::new(false),
            is_draining: AtomicBool::new(false),
            permits: Semaphore::new(MAX_CONCURRENT),
        })))
    }

    /// All clients drop their connections and the requests in flight.
    pub(crate) fn disconnect(&self) {
        self.0.disconnects.send_modify(|times| *times += 1);
    }

    /// Sets whether the devices' clocks are off by hours.
    pub(crate) fn skew_clocks(&self, is_skewed: bool) {
        self.0.are_clocks_skewed.store(is_skewed, Ordering::Relaxed);
    }

    /// Sends orders and reports until `end`. Returns when each has its response or is given up.
    pub(crate) async fn run_load(&self, orders_a_second: f64, end: Instant) {
        let started = Instant::now();
        let mut ticks = tokio::time::interval(TICK);
        let mut in_flight = JoinSet::new();
        let (mut orders, mut reports) = (0_u32, 0_u32);
        while Instant::now() < end {
            ticks.tick().await;
            while in_flight.try_join_next().is_some() {}
            let elapsed = started.elapsed().as_secs_f64();
            while f64::from(orders) < elapsed * orders_a_second {
                in_flight.spawn(self.clone().order(u64::from(orders)));
                orders += 1;
            }
            while f64::from(reports) < elapsed * orders_a_second * REPORTS_PER_ORDER {
                in_flight.spawn(self.clone().report(u64::from(reports)));
                reports += 1;
            }
        }
        self.0.is_draining.store(true, Ordering::Relaxed);
        while in_flight.join_next().await.is_some() {}
    }

    /// Places an order, and retries it with the same key until there is a response.
    async fn order(self, number: u64) {
        let shared = &self.0;
        let Ok(_permit) = shared.permits.try_acquire() else {
            shared.journal.lock().skipped += 1;
            return;
        };
        let mut rng = shared.rng(0, number);
        let request = shared.request(&mut rng, 1..=9);
        let key = format!("order-{number}");
        shared.journal.lock().orders.insert(key.clone(), (request.clone(), Outcome::Unknown));
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));
        let mut disconnects = shared.disconnects.subscribe();
        let mut attempts_while_draining = 0;
        loop {
            let response = tokio::select! {
                response = shared.post(&key, &request) => response,
                // Dropping the request closes its connection.
                _ = disconnects.changed() => None,
            };
            if let Some(outcome @ (Outcome::Accepted(_) | Outcome::Rejected(_))) = response {
                let responded_at = Instant::now();
                // A repeated request must get the same response.
                let is_repeated = number.is_multiple_of(REPEATED_EVERY);
                let second = if is_repeated { shared.post(&key, &request).await } else { None };
                let mut entries = shared.journal.lock();
                if let Some(second) = second.filter(|second| *second != outcome && *second != Outcome::Unknown) {
                    entries.contradictions.push(format!("{key} got {outcome:?} first and {second:?} when repeated"));
                }
                if matches!(outcome, Outcome::Accepted(_)) {
                    entries.accepted_at.push(responded_at);
                }
                entries.orders.insert(key, (request, outcome));
                return;
            }
            attempts_while_draining += u32::from(shared.is_draining.load(Ordering::Relaxed));
            if number.is_multiple_of(NOT_RETRIED_EVERY) || attempts_while_draining > 5 {
                return;
            }
            shared.journal.lock().retries += 1;
            tokio::time::sleep(backoff.pause()).await;
        }
    }

    /// Publishes a consumption report, and retries until the broker acknowledges it.
    async fn report(self, number: u64) {
        let shared = &self.0;
        let Ok(_permit) = shared.permits.try_acquire() else { return };
        let mut rng = shared.rng(1, number);
        let request = shared.request(&mut rng, 1..=3);
        let Ok(quantity) = Quantity::try_from(request.quantity) else { return };
        let is_skewed = shared.are_clocks_skewed.load(Ordering::Relaxed);
        let skew = if is_skewed { CLOCK_SKEW } else { chrono::TimeDelta::zero() };
        let now = shared.clock.now();
        let timestamp = if number.is_multiple_of(2) { now + skew } else { now - skew };
        let report = StockConsumed {
            id: format!("report-{number}"),
            ssd_id: request.ssd_id,
            barcode: request.barcode.clone(),
            quantity,
            timestamp,
        };
        let name = (report.ssd_id, report.id.clone());
        shared.journal.lock().reports.insert(name.clone(), (request.clone(), Outcome::Unknown));
        let sent = Instant::now();
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));
        for _ in 0..30 {
            let Ok(message) = OutboundMessage::of("device", &report, timestamp, None) else { return };
            if shared.bus.publish(message).await.is_ok() {
                shared.journal.lock().reports.insert(name, (request, Outcome::Accepted(sent..=Instant::now())));
                return;
            }
            tokio::time::sleep(backoff.pause()).await;
        }
    }
}

impl Shared {
    /// Random numbers of one event: the same for the same seed.
    fn rng(&self, kind: u64, number: u64) -> ChaCha8Rng {
        ChaCha8Rng::seed_from_u64(self.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (number << 1 | kind))
    }

    fn request(&self, rng: &mut ChaCha8Rng, units: std::ops::RangeInclusive<i64>) -> Request {
        let ssd_id = self.devices.choose(rng).copied().unwrap_or(SsdId(1));
        let index = rng.random_range(0..self.barcodes.len());
        Request { ssd_id, barcode: self.barcodes[index].clone(), quantity: rng.random_range(units) }
    }

    /// Posts an order; `None` without a response.
    async fn post(&self, key: &str, request: &Request) -> Option<Outcome<Uuid>> {
        let body = json!({"ssd_id": request.ssd_id, "barcode": request.barcode, "quantity": request.quantity});
        let request = self.client.post(&self.orders_url).bearer_auth(self.tokens.current()).json(&body);
        let request = request.header("Idempotency-Key", key);
        let response = request.send().await.ok()?;
        let status = response.status();
        let body: Value = response.json().await.ok()?;
        match status {
            StatusCode::CREATED => Some(Outcome::Accepted(body["id"].as_str()?.parse().ok()?)),
            // A 5xx does not tell whether the order was stored.
            _ if status.is_server_error() => Some(Outcome::Unknown),
            _ => Some(Outcome::Rejected(format!("{status} {}", body["detail"]))),
        }
    }
}

/// Registers a household with two devices that the generator simulates. Retries until the service responds; returns the
/// ids of the devices.
async fn register_household(client: &Client, url: &str, tokens: &Tokens, number: u64) -> anyhow::Result<Vec<SsdId>> {
    let address = |device: u64| format!("02:0f:c0:00:{number:02x}:{device:02x}");
    let body = json!({
        "user": {"first_name": "Ada", "last_name": "Example", "email": format!("ada-{number}@example.org"),
            "password": "correct horse battery"},
        "devices": [{"mac_address": address(0)}, {"mac_address": address(1)}],
    });
    let mut backoff = Backoff::default();
    for _ in 0..30 {
        let response =
            client.post(format!("{url}/api/register")).bearer_auth(tokens.current()).json(&body).send().await;
        match response {
            Ok(response) if response.status() == StatusCode::CREATED => {
                let body: Value = response.json().await?;
                let devices = body["devices"].as_array().context("no devices in the response")?;
                return Ok(devices.iter().filter_map(|device| device["ssd_id"].as_i64()).map(SsdId).collect());
            }
            Ok(response) if response.status().is_client_error() => {
                let status = response.status();
                anyhow::bail!("{url} rejected the registration of a household: {status} {}", response.text().await?);
            }
            _ => tokio::time::sleep(backoff.pause()).await,
        }
    }
    anyhow::bail!("the users service does not respond")
}
