//! Executes the events of the plan when they are due.

use crate::{
    App, Config, Generator,
    api::ApiError,
    deposits::Deposits,
    domain::{Action, InitialHouseholds, Kind, Plan, PlannedEvent, PlannedOrder, PlannedPay},
    products::Products,
    registrar::Registrar,
    trace::new_span,
};
use anyhow::anyhow;
use chrono::TimeDelta;
use off_events::{Barcode, Quantity, SsdId, StockConsumed, faults::FaultKind};
use off_kit::{Bus, Clock, Kit, LogLimit, Service, Tasks, bus::OutboundMessage, schedule::Schedule, telemetry};
use std::{iter, sync::Arc, time::Duration};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::Instant,
};
use tracing::{Instrument, debug, info, warn};
use uuid::Uuid;

/// Maximum number of concurrent events. Events above it are skipped, so that a slow service is not overloaded.
const MAX_CONCURRENT: u32 = 256;

/// Maximum number of reports that a failure switch makes late at a time. Reports above it are on time.
const MAX_LATE_REPORTS: usize = 10_000;

/// Interval between log lines with statistics.
const REPORT_INTERVAL: Duration = Duration::from_secs(10);

/// Interval between two polls for events that are due before the next one.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// Maximum number of events per poll.
const MAX_PER_POLL: usize = 20_000;

/// Executes the plan. Clones share their state.
#[derive(Debug, Clone)]
pub(crate) struct Runner {
    config: Arc<Config>,
    app: App,
    products: Products,
    bus: Bus,
    clock: Clock,
    tasks: Tasks,
    /// Part of all keys and ids that this run sends, so that they differ from those of earlier runs.
    run: Uuid,
    /// One for each event in progress.
    permits: Arc<Semaphore>,
    /// One for each report that a failure switch makes late.
    late_reports: Arc<Semaphore>,
    log_limit: Arc<LogLimit>,
}

/// A job of the schedule.
#[derive(Debug, Clone, Copy)]
enum Job {
    StartEvents,
    LogStats,
}

/// The tasks that handle events beside the runner.
#[derive(Debug)]
struct Workers {
    /// The number of households that are wanted so far.
    wanted: watch::Sender<u32>,
    deposits: Deposits,
}

impl Runner {
    /// A new run.
    pub(crate) fn new(config: Config, app: App, products: Products, bus: Bus, kit: &Kit) -> Self {
        Self {
            config: Arc::new(config),
            app,
            products,
            bus,
            clock: kit.clock,
            tasks: kit.tasks.clone(),
            run: Uuid::now_v7(),
            permits: Arc::new(Semaphore::new(MAX_CONCURRENT as usize)),
            late_reports: Arc::new(Semaphore::new(MAX_LATE_REPORTS)),
            log_limit: Arc::default(),
        }
    }

    /// Starts the task that runs until shutdown and then waits for the events in progress.
    pub(crate) fn start(self, kit: &Kit) {
        kit.tasks.spawn("runner", async move {
            tokio::select! {
                () = self.tasks.stopping() => {}
                result = self.run_plan() => result?,
            }
            let _ = self.permits.acquire_many(MAX_CONCURRENT).await;
            info!("{}", self.app.stats);
            Ok(())
        });
    }

    async fn run_plan(&self) -> anyhow::Result<()> {
        let (mut plan, workers) = self.start_workers().await;
        let mut events = iter::from_fn(|| plan.next()).peekable();
        let mut schedule = Schedule::new().await?;
        schedule.every(POLL_INTERVAL, Job::StartEvents).await?;
        schedule.every(REPORT_INTERVAL, Job::LogStats).await?;
        schedule.start().await?;
        // Simulated seconds, as in the plan.
        let interval = POLL_INTERVAL.as_secs_f64() * self.clock.speed();
        let mut now = 0.0;
        loop {
            match schedule.next().await? {
                Job::StartEvents => {
                    let next_poll = now + interval;
                    let mut count = 0;
                    while count < MAX_PER_POLL
                        && let Some(event) = events.next_if(|event| event.at <= next_poll)
                    {
                        let delay = Duration::from_secs_f64((event.at - now).max(0.0) / self.clock.speed());
                        self.start_event(event, delay, &workers);
                        count += 1;
                    }
                    // Events above the maximum stay for the next poll.
                    now = events.peek().map_or(next_poll, |next| next.at.min(next_poll));
                }
                Job::LogStats => info!("{}", self.app.stats),
            }
        }
    }

    /// Starts the registration of the initial households, and the tasks that make deposits. Returns the plan, and what
    /// hands events to these tasks.
    async fn start_workers(&self) -> (Plan, Workers) {
        let config = &self.config;
        let registrar = Registrar::load(config.seed, self.app.clone(), self.tasks.clone()).await;
        let existing = registrar.count();
        let goal = existing.max(config.households);
        let plan = Plan::new(
            config.seed,
            config.pace(),
            config.weights(),
            config.income(),
            InitialHouseholds { existing, goal },
            config.supplier_delay_max + config.delivery_delay_max,
            self.clock.speed(),
        );
        let (wanted, receiver) = watch::channel(goal);
        self.tasks.spawn("register", registrar.run(receiver));
        let deposits = Deposits::start(config, goal, self.app.clone(), self.clock, &self.tasks);
        (plan, Workers { wanted, deposits })
    }

    /// Executes an event in a new task after `delay`. Skips it if too many are in progress then.
    fn start_event(&self, event: PlannedEvent, delay: Duration, workers: &Workers) {
        let PlannedEvent { kind, number, action, .. } = event;
        match action {
            Action::Register => return workers.wanted.send_modify(|wanted| *wanted = wanted.saturating_add(1)),
            Action::Pay(pay) => return start_pay(pay, delay, workers.deposits.clone()),
            Action::Skip => {
                debug!("{kind} {number} is skipped: there is no household or delivered order yet");
                return;
            }
            Action::Order(_) | Action::Consume { .. } => {}
        }
        let runner = self.clone();
        // Not a supervised task: it ends within the timeouts of its requests, and shutdown waits for its permit.
        tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            let Ok(_permit) = runner.permits.try_acquire() else {
                debug!("{kind} {number} is skipped: {MAX_CONCURRENT} events are in progress");
                return;
            };
            if runner.tasks.is_stopping() {
                return;
            }
            if let Err(error) = runner.execute(number, action).instrument(new_span(kind)).await
                && let Some(suppressed) = runner.log_limit.admit()
            {
                warn!(suppressed, "{kind} {number} failed: {error:#}");
            }
        });
    }

    async fn execute(&self, number: u64, action: Action) -> anyhow::Result<()> {
        match action {
            Action::Order(order) => self.place_order(number, &order).await,
            Action::Consume { order, quantity } => self.report_consumption(number, &order, quantity).await,
            Action::Register | Action::Pay(_) | Action::Skip => Ok(()),
        }
    }

    async fn place_order(&self, number: u64, order: &PlannedOrder) -> anyhow::Result<()> {
        let Some((ssd_id, barcode)) = self.find_device_and_product(order).await? else { return Ok(()) };
        let key = format!("{}:{number}", self.run);
        let started = Instant::now();
        let outcome = self.app.api.place_order(&key, ssd_id, &barcode, order.quantity).await;
        self.app.stats.record(Kind::Order.as_str(), started.elapsed(), &outcome);
        Ok(outcome?)
    }

    async fn report_consumption(&self, number: u64, order: &PlannedOrder, quantity: i64) -> anyhow::Result<()> {
        let Some((ssd_id, barcode)) = self.find_device_and_product(order).await? else { return Ok(()) };
        let (now, key) = (self.clock.now(), number.to_le_bytes());
        let hit = |kind| self.bus.faults.find(kind, now).filter(|fault| fault.hits(&key));
        if hit(FaultKind::ReportNever).is_some() {
            return Ok(());
        }
        let fast = hit(FaultKind::ReportWrongClock).map_or(0, |fault| fault.amount());
        let report = StockConsumed {
            id: format!("{}:{number}", self.run),
            ssd_id,
            barcode,
            quantity: Quantity::try_from(quantity)?,
            timestamp: now + TimeDelta::seconds(fast.into()),
        };
        let trace = telemetry::current_traceparent();
        let message = OutboundMessage::of(Generator::NAME, &report, report.timestamp, trace.as_deref())?;
        let started = Instant::now();
        if let Some(late) = hit(FaultKind::ReportLate)
            && let Ok(place) = self.late_reports.clone().try_acquire_owned()
        {
            self.publish_later(message, Duration::from_secs(late.amount().into()), place);
            return Ok(());
        }
        if hit(FaultKind::ReportTwice).is_some() {
            // With another deduplication id, so that the broker passes both on.
            let _ = self.bus.publish(message.clone().with_new_dedup_id(now)).await;
        }
        let outcome = self.bus.publish(message).await.map_err(|error| ApiError::Unavailable(anyhow!(error)));
        self.app.stats.record(Kind::Consumption.as_str(), started.elapsed(), &outcome);
        Ok(outcome?)
    }

    /// Publishes a report after `delay` in simulated time, unless the generator stops before.
    fn publish_later(&self, report: OutboundMessage, delay: Duration, place: OwnedSemaphorePermit) {
        let runner = self.clone();
        // Not a supervised task: it ends when the generator stops.
        tokio::spawn(async move {
            let _place = place;
            tokio::select! {
                () = runner.tasks.stopping() => {}
                () = runner.clock.sleep(delay) => {
                    if let Err(error) = runner.bus.publish(report).await {
                        debug!("a late report was not published: {error}");
                    }
                }
            }
        });
    }

    /// The device and the product of an order; `None` at shutdown, or if the household or a product is missing.
    async fn find_device_and_product(&self, order: &PlannedOrder) -> anyhow::Result<Option<(SsdId, Barcode)>> {
        let lookup = async {
            let Some(ssd_id) = self.app.households.wait_for_device(order).await else {
                debug!("household {} is not registered", order.household);
                return Ok(None);
            };
            let Some(barcode) = self.products.draw(ssd_id, order.product_seed).await? else {
                info!("the catalog is empty, so nothing is ordered");
                return Ok(None);
            };
            Ok(Some((ssd_id, barcode)))
        };
        tokio::select! {
            () = self.tasks.stopping() => Ok(None),
            found = lookup => found,
        }
    }
}

/// Pays a household after `delay`.
fn start_pay(pay: PlannedPay, delay: Duration, deposits: Deposits) {
    tokio::spawn(async move {
        tokio::time::sleep(delay).await;
        deposits.pay(pay);
    });
}
