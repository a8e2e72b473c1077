//! People who order and devices that report, all with a journal.

use super::{
    journal::{Journal, Outcome, Wish},
    parts::Parts,
    schedule::Link,
};
use crate::serve::Name;
use anyhow::Context;
use off_events::{Barcode, Quantity, SsdId, StockConsumed};
use off_kit::{Bus, Clock, backoff::Backoff, bus::Outgoing};
use rand::{RngExt, SeedableRng, seq::IndexedRandom};
use rand_chacha::ChaCha8Rng;
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use std::{
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

/// People with two devices each.
const HOUSEHOLDS: u64 = 20;

/// Products they like.
const PRODUCTS: i64 = 40;

/// How long anyone waits for an answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(4);

/// Requests and reports that may wait for an answer at once.
const AT_ONCE: usize = 4000;

/// One in so many orders is not repeated when it is not answered.
const IMPATIENT: u64 = 20;

/// One in so many orders is sent again although it was answered.
const DOUBTFUL: u64 = 7;

/// The beat of the load: what is due is sent, whether anything was answered or not.
const BEAT: Duration = Duration::from_millis(10);

/// Reports for each order.
const REPORTS_PER_ORDER: f64 = 0.5;

/// How wrong clocks are.
const WRONG_BY: chrono::TimeDelta = chrono::TimeDelta::hours(7);

/// Everyone outside the system. Clones are the same people.
#[derive(Debug, Clone)]
pub(super) struct People(Arc<Everyone>);

#[derive(Debug)]
struct Everyone {
    journal: Arc<Journal>,
    orders_url: String,
    client: Client,
    bus: Bus,
    clock: Clock,
    seed: u64,
    ssds: Vec<SsdId>,
    barcodes: Vec<Barcode>,
    /// Counts up whenever everyone loses their connections.
    vanished: watch::Sender<u64>,
    clocks_are_wrong: AtomicBool,
    /// Nobody begins anything new, and whoever waits for an answer goes on only for a while.
    resting: AtomicBool,
    free: Semaphore,
}

impl People {
    /// Registers everyone, over the API.
    pub(super) async fn settle(parts: &Parts, journal: Arc<Journal>, clock: Clock, seed: u64) -> anyhow::Result<Self> {
        // Whoever was first chose the same.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder().timeout(ANSWER_WITHIN).no_proxy().build()?;
        let users_url = parts.url(Link::FromPeople(Name::Users));
        let mut ssds = Vec::new();
        for number in 0..HOUSEHOLDS {
            ssds.extend(register(&client, &users_url, number).await?);
        }
        let barcodes = sqlx::query_scalar!("SELECT barcode FROM catalog.products ORDER BY barcode LIMIT $1", PRODUCTS);
        let barcodes = barcodes.fetch_all(&parts.db).await?;
        let barcodes = barcodes.iter().map(|barcode| Ok(barcode.parse()?)).collect::<anyhow::Result<_>>()?;
        Ok(Self(Arc::new(Everyone {
            journal,
            orders_url: format!("{}/api/orders", parts.url(Link::FromPeople(Name::Orders))),
            client,
            bus: parts.bus.clone(),
            clock,
            seed,
            ssds,
            barcodes,
            vanished: watch::Sender::new(0),
            clocks_are_wrong: AtomicBool::new(false),
            resting: AtomicBool::new(false),
            free: Semaphore::new(AT_ONCE),
        })))
    }

    /// Everyone loses all connections, whatever they were waiting for.
    pub(super) fn vanish(&self) {
        self.0.vanished.send_modify(|times| *times += 1);
    }

    pub(super) fn skew_clocks(&self, wrong: bool) {
        self.0.clocks_are_wrong.store(wrong, Ordering::Relaxed);
    }

    /// Orders and reports at these rates until `end`; returns when the last answer has come or is given up.
    pub(super) async fn live(&self, orders_a_second: f64, end: Instant) {
        let started = Instant::now();
        let mut beat = tokio::time::interval(BEAT);
        let mut under_way = JoinSet::new();
        let (mut orders, mut reports) = (0_u32, 0_u32);
        while Instant::now() < end {
            beat.tick().await;
            while under_way.try_join_next().is_some() {}
            let elapsed = started.elapsed().as_secs_f64();
            while f64::from(orders) < elapsed * orders_a_second {
                under_way.spawn(self.clone().order(u64::from(orders)));
                orders += 1;
            }
            while f64::from(reports) < elapsed * orders_a_second * REPORTS_PER_ORDER {
                under_way.spawn(self.clone().report(u64::from(reports)));
                reports += 1;
            }
        }
        self.0.resting.store(true, Ordering::Relaxed);
        while under_way.join_next().await.is_some() {}
    }

    /// Orders something, and repeats it with the same key until there is an answer, as a careful client does.
    async fn order(self, number: u64) {
        let everyone = &self.0;
        let Ok(_permit) = everyone.free.try_acquire() else {
            everyone.journal.lock().left_out += 1;
            return;
        };
        let mut rng = everyone.rng(0, number);
        let wish = everyone.wish(&mut rng, 1..=9);
        let key = format!("order-{number}");
        everyone.journal.lock().orders.insert(key.clone(), (wish.clone(), Outcome::Unknown));
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));
        let mut vanished = everyone.vanished.subscribe();
        let mut attempts_at_rest = 0;
        loop {
            let answer = tokio::select! {
                answer = everyone.post(&key, &wish) => answer,
                // The connection goes with the request.
                _ = vanished.changed() => None,
            };
            if let Some(outcome @ (Outcome::Accepted(_) | Outcome::Refused(_))) = answer {
                let answered_at = Instant::now();
                // Whoever asks again although there was an answer gets the same one.
                let again = if number.is_multiple_of(DOUBTFUL) { everyone.post(&key, &wish).await } else { None };
                let mut pages = everyone.journal.lock();
                if let Some(again) = again.filter(|again| *again != outcome && *again != Outcome::Unknown) {
                    pages.contradictions.push(format!("{key} was answered with {outcome:?} and then with {again:?}"));
                }
                if matches!(outcome, Outcome::Accepted(_)) {
                    pages.accepted_at.push(answered_at);
                }
                pages.orders.insert(key, (wish, outcome));
                return;
            }
            attempts_at_rest += u32::from(everyone.resting.load(Ordering::Relaxed));
            if number.is_multiple_of(IMPATIENT) || attempts_at_rest > 5 {
                return;
            }
            everyone.journal.lock().repeated += 1;
            tokio::time::sleep(backoff.pause()).await;
        }
    }

    /// A device reports that something was taken, and repeats it until the broker has it.
    async fn report(self, number: u64) {
        let everyone = &self.0;
        let Ok(_permit) = everyone.free.try_acquire() else { return };
        let mut rng = everyone.rng(1, number);
        let wish = everyone.wish(&mut rng, 1..=3);
        let Ok(quantity) = Quantity::try_from(wish.quantity) else { return };
        let wrong_by =
            if everyone.clocks_are_wrong.load(Ordering::Relaxed) { WRONG_BY } else { chrono::TimeDelta::zero() };
        let now = everyone.clock.now();
        let timestamp = if number.is_multiple_of(2) { now + wrong_by } else { now - wrong_by };
        let report = StockConsumed {
            id: format!("report-{number}"),
            ssd_id: wish.ssd_id,
            barcode: wish.barcode.clone(),
            quantity,
            timestamp,
        };
        let name = (report.ssd_id, report.id.clone());
        everyone.journal.lock().reports.insert(name.clone(), (wish.clone(), Outcome::Unknown));
        let sent = Instant::now();
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));
        for _ in 0..30 {
            let Ok(message) = Outgoing::of("device", &report, timestamp, None) else { return };
            if everyone.bus.publish(message).await.is_ok() {
                everyone.journal.lock().reports.insert(name, (wish, Outcome::Accepted(sent..=Instant::now())));
                return;
            }
            tokio::time::sleep(backoff.pause()).await;
        }
    }
}

impl Everyone {
    /// The random numbers of one event: always the same for the same seed.
    fn rng(&self, kind: u64, number: u64) -> ChaCha8Rng {
        ChaCha8Rng::seed_from_u64(self.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (number << 1 | kind))
    }

    fn wish(&self, rng: &mut ChaCha8Rng, units: std::ops::RangeInclusive<i64>) -> Wish {
        let ssd_id = self.ssds.choose(rng).copied().unwrap_or(SsdId(1));
        let place = rng.random_range(0..self.barcodes.len());
        Wish { ssd_id, barcode: self.barcodes[place].clone(), quantity: rng.random_range(units) }
    }

    /// Posts an order; `None` without an answer.
    async fn post(&self, key: &str, wish: &Wish) -> Option<Outcome<Uuid>> {
        let body = json!({"ssd_id": wish.ssd_id, "barcode": wish.barcode, "quantity": wish.quantity});
        let request = self.client.post(&self.orders_url).header("Idempotency-Key", key).json(&body);
        let answer = request.send().await.ok()?;
        let status = answer.status();
        let body: Value = answer.json().await.ok()?;
        match status {
            StatusCode::CREATED => Some(Outcome::Accepted(body["id"].as_str()?.parse().ok()?)),
            // It does not say whether it happened.
            _ if status.is_server_error() => Some(Outcome::Unknown),
            _ => Some(Outcome::Refused(format!("{status} {}", body["detail"]))),
        }
    }
}

/// Registers a household with two devices of the generator's kind; tries until the service answers.
async fn register(client: &Client, users_url: &str, number: u64) -> anyhow::Result<Vec<SsdId>> {
    let address = |device: u64| format!("02:0f:c0:00:{number:02x}:{device:02x}");
    let body = json!({
        "user": {"first_name": "Ada", "last_name": "Example", "email": format!("ada-{number}@example.org"),
            "password": "correct horse battery"},
        "devices": [{"mac_address": address(0)}, {"mac_address": address(1)}],
    });
    let mut backoff = Backoff::default();
    for _ in 0..30 {
        let answer = client.post(format!("{users_url}/api/register")).json(&body).send().await;
        match answer {
            Ok(answer) if answer.status() == StatusCode::CREATED => {
                let body: Value = answer.json().await?;
                let devices = body["devices"].as_array().context("no devices in the answer")?;
                return Ok(devices.iter().filter_map(|device| device["ssd_id"].as_i64()).map(SsdId).collect());
            }
            Ok(answer) if answer.status().is_client_error() => {
                let status = answer.status();
                anyhow::bail!("{users_url} did not register a household: {status} {}", answer.text().await?);
            }
            _ => tokio::time::sleep(backoff.pause()).await,
        }
    }
    anyhow::bail!("the users service does not start")
}
