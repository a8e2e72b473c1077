//! Simulated clients that pay money in, place orders and cancel some, and devices that report consumption. All record
//! what they do in the journal.

mod calls;
mod people;

use crate::{
    fault::Link,
    journal::{Deposit, Journal, Outcome, Request},
    network::RunSettings,
    parts::Parts,
    store,
    tokens::Tokens,
};
use calls::Call;
use off_events::{Barcode, Money, Quantity, SsdId, StockConsumed, UserId};
use off_kit::{Bus, Clock, backoff::Backoff, bus::OutboundMessage};
use people::People;
pub(crate) use people::credentials;
use rand::{RngExt, SeedableRng, seq::IndexedRandom};
use rand_chacha::ChaCha8Rng;
use reqwest::Client;
use std::{
    fmt::Debug,
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

/// Different products that are ordered and consumed.
const PRODUCTS: i64 = 40;

/// How long a client waits for a response.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(4);

/// Orders, deposits and reports that may be in flight at once.
const MAX_CONCURRENT: usize = 4000;

/// One in so many orders is not retried when it gets no response.
const NOT_RETRIED_EVERY: u64 = 20;

/// One in so many orders, deposits and cancellations is sent again after its response.
const REPEATED_EVERY: u64 = 7;

/// One in so many orders is cancelled, after a random part of the longest time that its supplier takes.
const CANCELLED_EVERY: u64 = 5;
const LONGEST_SUPPLY: Duration = Duration::from_mins(4);

/// What each person pays in at first, in cents: so little that some orders are refused.
const FIRST_DEPOSIT: i64 = 20_000;

/// Range of the later deposits, in cents.
const DEPOSIT: std::ops::RangeInclusive<i64> = 100..=25_000;

/// Orders for each later deposit. These go to simulated people only, who are half of all.
const ORDERS_PER_DEPOSIT: u32 = 20;

/// The largest deposit that the billing service accepts, in cents.
const MAX_DEPOSIT: i64 = 1_000_000;

/// People who watch their events.
const VIEWERS: usize = 6;

/// How long the welcome letters of all people may take.
const WELCOME_TIMEOUT: Duration = Duration::from_secs(30);

/// Interval at which due orders, deposits and reports are sent, regardless of outstanding responses.
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
    /// The gateway.
    url: String,
    client: Client,
    tokens: Tokens,
    bus: Bus,
    clock: Clock,
    seed: u64,
    people: People,
    barcodes: Vec<Barcode>,
    /// Incremented whenever all clients drop their connections.
    disconnects: watch::Sender<u64>,
    are_clocks_skewed: AtomicBool,
    /// The load has ended: orders in flight are retried only a few more times.
    is_draining: AtomicBool,
    /// Limits the orders, deposits and reports in flight.
    permits: Semaphore,
}

impl Clients {
    /// Registers all households over the API, and pays a little money into their accounts. Half of the people are real
    /// after that.
    pub(crate) async fn register(
        parts: &Parts,
        secrets: &Path,
        journal: Arc<Journal>,
        clock: Clock,
        run: RunSettings,
    ) -> anyhow::Result<Self> {
        // Fails if a provider is installed already, which is the same one.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder().timeout(ANSWER_TIMEOUT).no_proxy().build()?;
        let url = parts.url(Link::FromClients);
        let tokens = Tokens::start(client.clone(), &url, secrets).await?;
        let people = People::register(&client, &url, &tokens).await?;
        let barcodes = store::find_barcodes(&parts.db, PRODUCTS).await?;
        let barcodes = barcodes.iter().map(|barcode| Ok(barcode.parse()?)).collect::<anyhow::Result<_>>()?;
        let clients = Self(Arc::new(Shared {
            journal,
            url,
            client,
            tokens,
            bus: parts.bus.clone(),
            clock,
            seed: run.seed,
            people,
            barcodes,
            disconnects: watch::Sender::new(0),
            are_clocks_skewed: AtomicBool::new(false),
            is_draining: AtomicBool::new(false),
            permits: Semaphore::new(MAX_CONCURRENT),
        }));
        let People { simulated, real, .. } = &clients.0.people;
        for (number, &user) in (0..).zip(simulated.iter().chain(real)) {
            let deposit = Deposit { user, amount: Money::from_cents(FIRST_DEPOSIT)? };
            clients.0.pay_in(number, format!("first-{number}"), deposit).await;
        }
        clients.make_real(parts, run.orders).await?;
        Ok(clients)
    }

    /// Makes half of the people real, so that their letters are also e-mails, to the mail server of the run. Their
    /// devices stay simulated, so that the clients still order for them. The clients cannot pay in for real people, who
    /// therefore get at once what the others get during the run.
    async fn make_real(&self, parts: &Parts, orders: u64) -> anyhow::Result<()> {
        let People { simulated, real, .. } = &self.0.people;
        let average = (DEPOSIT.start() + DEPOSIT.end()) / 2;
        let deposits = i64::try_from(orders / u64::from(ORDERS_PER_DEPOSIT))?;
        let each = deposits * average / i64::try_from(simulated.len())?;
        for (number, &user) in (0..).zip(real) {
            for paid in (0..each).step_by(usize::try_from(MAX_DEPOSIT)?) {
                let deposit = Deposit { user, amount: Money::from_cents(MAX_DEPOSIT.min(each - paid))? };
                self.0.pay_in(number, format!("large-{number}-{paid}"), deposit).await;
            }
        }
        let real: Vec<i64> = real.iter().map(|user| user.0).collect();
        // Otherwise nobody knows whether a welcome letter is also an e-mail.
        let deadline = Instant::now() + WELCOME_TIMEOUT;
        while store::count_welcomed(&parts.db, &real).await? < i64::try_from(real.len())? {
            anyhow::ensure!(Instant::now() < deadline, "not all people are welcomed");
            tokio::time::sleep(TICK).await;
        }
        store::make_real(&parts.db, &real).await?;
        Ok(())
    }

    /// Some people with their numbers, who watch their events.
    pub(crate) fn viewers(&self) -> Vec<(u64, UserId)> {
        self.0.people.numbered(VIEWERS)
    }

    /// All clients drop their connections and the requests in flight.
    pub(crate) fn disconnect(&self) {
        self.0.disconnects.send_modify(|times| *times += 1);
    }

    /// Sets whether the devices' clocks are off by hours.
    pub(crate) fn skew_clocks(&self, is_skewed: bool) {
        self.0.are_clocks_skewed.store(is_skewed, Ordering::Relaxed);
    }

    /// Sends orders, deposits and reports until `end`. Returns when each has its response or is given up.
    pub(crate) async fn run_load(&self, orders_a_second: f64, end: Instant) {
        let started = Instant::now();
        let mut ticks = tokio::time::interval(TICK);
        let mut in_flight = JoinSet::new();
        let (mut orders, mut reports, mut deposits) = (0_u32, 0_u32, 0_u32);
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
            while f64::from(deposits * ORDERS_PER_DEPOSIT) < elapsed * orders_a_second {
                in_flight.spawn(self.clone().deposit(u64::from(deposits)));
                deposits += 1;
            }
        }
        self.0.is_draining.store(true, Ordering::Relaxed);
        while in_flight.join_next().await.is_some() {}
    }

    /// Places an order, and retries it with the same key until there is a response. Cancels some.
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
        let call = Call::order(&key, &request);
        let answer = shared.ask(&call, !number.is_multiple_of(NOT_RETRIED_EVERY)).await;
        let Some(outcome) = answer.map(|answer| answer.created()) else { return };
        let responded_at = Instant::now();
        shared.repeat(number, &call, &outcome).await;
        {
            let mut entries = shared.journal.lock();
            entries.accepted_at.extend(matches!(outcome, Outcome::Accepted(_)).then_some(responded_at));
            entries.orders.insert(key, (request, outcome.clone()));
        }
        if let Outcome::Accepted(id) = outcome
            && number.is_multiple_of(CANCELLED_EVERY)
        {
            let pause = shared.clock.real_wait(LONGEST_SUPPLY).mul_f64(rng.random_range(0.0..1.0));
            tokio::time::sleep(pause).await;
            shared.cancel(number, id).await;
        }
    }

    /// Pays a random amount into the account of a random simulated person.
    async fn deposit(self, number: u64) {
        let shared = &self.0;
        let Ok(_permit) = shared.permits.try_acquire() else { return };
        let mut rng = shared.rng(2, number);
        let Some(&user) = shared.people.simulated.choose(&mut rng) else { return };
        let Ok(amount) = Money::from_cents(rng.random_range(DEPOSIT)) else { return };
        shared.pay_in(number, format!("deposit-{number}"), Deposit { user, amount }).await;
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
        ChaCha8Rng::seed_from_u64(self.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (number << 2 | kind))
    }

    fn request(&self, rng: &mut ChaCha8Rng, units: std::ops::RangeInclusive<i64>) -> Request {
        let ssd_id = self.people.devices.choose(rng).copied().unwrap_or(SsdId(1));
        let index = rng.random_range(0..self.barcodes.len());
        Request { ssd_id, barcode: self.barcodes[index].clone(), quantity: rng.random_range(units) }
    }

    /// Pays money in, and retries with the same key until there is a response.
    async fn pay_in(&self, number: u64, key: String, deposit: Deposit) {
        let call = Call::deposit(&key, deposit);
        self.journal.lock().deposits.insert(key.clone(), (deposit, Outcome::Unknown));
        let Some(outcome) = self.ask(&call, true).await.map(|answer| answer.created()) else { return };
        self.repeat(number, &call, &outcome).await;
        self.journal.lock().deposits.insert(key, (deposit, outcome));
    }

    /// Cancels an order, and retries until there is a response. A cancelled order can be cancelled again.
    async fn cancel(&self, number: u64, order: Uuid) {
        let call = Call::cancellation(order);
        self.journal.lock().cancellations.insert(order, Outcome::Unknown);
        let Some(outcome) = self.ask(&call, true).await.map(|answer| answer.cancelled()) else { return };
        if number.is_multiple_of(REPEATED_EVERY)
            && let Some(second) = self.send(&call).await.map(|answer| answer.cancelled())
        {
            self.note_contradiction(&call, &outcome, &second);
        }
        self.journal.lock().cancellations.insert(order, outcome);
    }

    /// Sends some requests again, which must get the same response.
    async fn repeat(&self, number: u64, call: &Call, outcome: &Outcome<Uuid>) {
        if number.is_multiple_of(REPEATED_EVERY)
            && let Some(second) = self.send(call).await.map(|answer| answer.created())
        {
            self.note_contradiction(call, outcome, &second);
        }
    }

    fn note_contradiction<T: PartialEq + Debug>(&self, call: &Call, first: &Outcome<T>, second: &Outcome<T>) {
        if first != second && *second != Outcome::Unknown {
            let text = format!("{call} got {first:?} first and {second:?} when repeated");
            self.journal.lock().contradictions.push(text);
        }
    }
}
