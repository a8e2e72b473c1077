//! Life: what happens in households, when, and how often.

use crate::{
    App, Config, Generator,
    api::ApiError,
    domain::{Household, Kind, bite, is_generated, order_quantity, rng},
    market::{Market, Offer},
};
use anyhow::anyhow;
use futures::{StreamExt, stream};
use off_events::{Quantity, StockConsumed};
use off_kit::{Bus, Clock, Kit, Service, Tasks, backoff::Backoff, bus::Outgoing, schedule::Schedule, telemetry};
use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{sync::Semaphore, time::Instant};
use tracing::{Instrument, debug, info, info_span, warn};
use uuid::Uuid;

/// Events under way at once; what is due beyond that is left out, so that a slow service is not buried.
const AT_ONCE: usize = 256;

/// Households that register at once at the beginning.
const SETTLING_AT_ONCE: usize = 4;

/// How often it reports.
const REPORT_EVERY: Duration = Duration::from_secs(10);

/// The beat of the schedule in rate mode.
const BEAT: Duration = Duration::from_secs(1);

/// The most events of a kind in a beat.
const MOST_IN_A_BEAT: f64 = 20_000.0;

/// What life needs. Clones live the same life.
#[derive(Debug, Clone)]
pub(crate) struct Life {
    config: Arc<Config>,
    app: App,
    market: Market,
    bus: Bus,
    clock: Clock,
    tasks: Tasks,
    /// Names what this run sends, so that it is never taken for what an earlier one sent.
    run: Uuid,
    /// The number of the next household, order and consumption.
    numbers: Arc<[AtomicU64; 3]>,
    free: Arc<Semaphore>,
}

/// What the schedule makes due.
#[derive(Debug, Clone, Copy)]
enum Due {
    /// As many of any kind as its period brings in a beat.
    Any,
    /// As many of this kind as its rate brings in a beat.
    Beat(Kind),
    Report,
}

/// How long to wait in this beat for each event that is due in it: `more` and what was left of the beat before.
fn due(fraction: &mut f64, more: f64) -> Vec<Duration> {
    *fraction = (*fraction + more).min(MOST_IN_A_BEAT);
    let mut delays = Vec::new();
    let whole = fraction.floor();
    while *fraction >= 1.0 {
        delays.push(BEAT.mul_f64(delays.len() as f64 / whole));
        *fraction -= 1.0;
    }
    delays
}

impl Life {
    pub(crate) fn new(config: Config, app: App, market: Market, bus: Bus, kit: &Kit) -> Self {
        Self {
            config: Arc::new(config),
            app,
            market,
            bus,
            clock: kit.clock,
            tasks: kit.tasks.clone(),
            run: Uuid::now_v7(),
            numbers: Arc::default(),
            free: Arc::new(Semaphore::new(AT_ONCE)),
        }
    }

    pub(crate) fn start(self, kit: &Kit) {
        kit.tasks.spawn("life", async move {
            tokio::select! {
                () = self.tasks.stopping() => {}
                ended = self.live() => ended?,
            }
            // What is under way comes to its end.
            tokio::select! {
                all = self.free.acquire_many(u32::try_from(AT_ONCE)?) => drop(all?),
                () = self.tasks.out_of_time() => {}
            }
            info!("{}", self.app.stats);
            Ok(())
        });
    }

    async fn live(&self) -> anyhow::Result<()> {
        let known = self.meet().await;
        // What is registered already is not registered again.
        self.numbers[Kind::Registration as usize].store(known, Ordering::Relaxed);
        let settling = self.clone();
        let missing = u64::from(self.config.households).saturating_sub(known);
        self.tasks.spawn("settle", async move {
            settling.settle(missing).await;
            settling.tasks.stopping().await;
            Ok(())
        });
        let mut schedule = Schedule::new().await?;
        match self.config.run_period {
            Some(_) => schedule.every(BEAT, Due::Any).await?,
            None => {
                for kind in Kind::ALL {
                    schedule.every(BEAT, Due::Beat(kind)).await?;
                }
            }
        }
        schedule.every(REPORT_EVERY, Due::Report).await?;
        schedule.start().await?;
        self.follow(&mut schedule).await
    }

    async fn follow(&self, schedule: &mut Schedule<Due>) -> anyhow::Result<()> {
        let weights = self.config.weights();
        // Fractions of an event that are due and wait to become a whole one: of each kind, and of any.
        let mut fractions = [0.0; 4];
        let mut turn = 0;
        let beat = BEAT.as_secs_f64() * self.clock.speed();
        loop {
            match schedule.next().await? {
                Due::Any => {
                    let period = self.config.run_period.map_or(f64::INFINITY, f64::from);
                    for delay in due(&mut fractions[3], beat / period) {
                        if let Some(kind) =
                            weights.draw(&mut rng(self.config.seed, Kind::Registration, u64::MAX - turn))
                        {
                            self.begin(kind, delay);
                        }
                        turn += 1;
                    }
                }
                Due::Beat(kind) => {
                    for delay in due(&mut fractions[kind as usize], beat * self.config.rate * weights.share(kind)) {
                        self.begin(kind, delay);
                    }
                }
                Due::Report => info!("{}", self.app.stats),
            }
        }
    }

    /// Starts an event after `delay`, unless too many are under way then.
    fn begin(&self, kind: Kind, delay: Duration) {
        let number = self.numbers[kind as usize].fetch_add(1, Ordering::Relaxed);
        let life = self.clone();
        // Not a task of its own right: it ends within the limits of its requests, and `free` waits for it.
        tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            let Ok(_permit) = life.free.try_acquire() else {
                debug!("{} is left out: {AT_ONCE} events are under way", kind.as_str());
                return;
            };
            if life.tasks.is_stopping() {
                return;
            }
            let span =
                info_span!("job", otel.name = format!("job.{}", kind.as_str()), trace_id = tracing::field::Empty);
            telemetry::continue_trace(&span, None);
            let happening = async {
                match kind {
                    Kind::Registration => life.register(number).await,
                    Kind::Order => life.order(number).await,
                    Kind::Consumption => life.consume(number).await,
                }
            };
            if let Err(error) = happening.instrument(span).await {
                warn!("{} {number} came to nothing: {error:#}", kind.as_str());
            }
        });
    }

    /// Learns which generated devices exist already; says how many households they belong to. Waits for the users
    /// service as long as it takes.
    async fn meet(&self) -> u64 {
        let mut people = HashSet::new();
        let mut cursor = None;
        let mut backoff = Backoff::default();
        loop {
            match self.app.api.list_devices(cursor).await {
                Ok(page) => {
                    for device in page.devices.into_iter().filter(|device| is_generated(&device.mac_address)) {
                        self.app.households.insert_own(device.ssd_id);
                        people.insert(device.user_id);
                    }
                    cursor = page.next_cursor;
                    if cursor.is_none() {
                        return people.len() as u64;
                    }
                }
                Err(error) => {
                    warn!("the users service does not answer yet: {error:#}");
                    tokio::time::sleep(backoff.pause()).await;
                }
            }
        }
    }

    /// Registers the first households, as fast as they are taken.
    async fn settle(&self, missing: u64) {
        let settling = stream::iter(0..missing).for_each_concurrent(SETTLING_AT_ONCE, |_| async {
            let number = self.numbers[Kind::Registration as usize].fetch_add(1, Ordering::Relaxed);
            if let Err(error) = self.register(number).await {
                debug!("household {number} did not settle: {error:#}");
            }
        });
        tokio::select! {
            () = settling => {}
            () = self.tasks.stopping() => {}
        }
    }

    async fn register(&self, number: u64) -> anyhow::Result<()> {
        let household = Household::new(self.config.seed, number);
        let started = Instant::now();
        let outcome = self.app.api.register(&household).await;
        self.app.stats.note(Kind::Registration.as_str(), started.elapsed(), &outcome);
        for ssd in outcome? {
            self.app.households.insert_own(ssd);
        }
        Ok(())
    }

    async fn order(&self, number: u64) -> anyhow::Result<()> {
        let offer = tokio::select! {
            () = self.tasks.stopping() => return Ok(()),
            offer = self.market.ask() => offer?,
        };
        let (ssd, barcode) = match offer {
            Offer::Order(ssd, barcode) => (ssd, barcode),
            Offer::NobodyRegistered => {
                info!("nobody is registered yet: {} waits", Kind::Order.as_str());
                return Ok(());
            }
            Offer::EmptyCatalogue => {
                info!("the catalogue is empty yet: {} waits", Kind::Order.as_str());
                return Ok(());
            }
        };
        let quantity = order_quantity(&mut rng(self.config.seed, Kind::Order, number));
        let started = Instant::now();
        let outcome = self.app.api.order(&format!("{}:{number}", self.run), ssd, &barcode, quantity).await;
        self.app.stats.note(Kind::Order.as_str(), started.elapsed(), &outcome);
        Ok(outcome?)
    }

    async fn consume(&self, number: u64) -> anyhow::Result<()> {
        let mut rng = rng(self.config.seed, Kind::Consumption, number);
        let Some(ssd_id) = self.app.households.draw(&mut rng) else {
            debug!("nobody is registered yet: {} waits", Kind::Consumption.as_str());
            return Ok(());
        };
        let device = self.app.api.find_device(ssd_id).await?;
        let on_shelf: Vec<_> = device.shelf.iter().filter(|item| item.quantity > 0).collect();
        let Some(item) = rand::seq::IndexedRandom::choose(&on_shelf[..], &mut rng) else {
            debug!("the shelf of device {ssd_id} is empty");
            return Ok(());
        };
        let quantity = Quantity::try_from(bite(&mut rng, item.quantity))?;
        let report = StockConsumed {
            id: format!("{}:{number}", self.run),
            ssd_id,
            barcode: item.barcode.clone(),
            quantity,
            timestamp: self.clock.now(),
        };
        let trace = telemetry::current_traceparent();
        let message = Outgoing::of(Generator::NAME, &report, report.timestamp, trace.as_deref())?;
        let started = Instant::now();
        let outcome = self.bus.publish(message).await.map_err(|error| ApiError::Unavailable(anyhow!(error)));
        self.app.stats.note(Kind::Consumption.as_str(), started.elapsed(), &outcome);
        Ok(outcome?)
    }
}
