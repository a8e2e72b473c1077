//! Executes the events of the plan when they are due.

use crate::{
    App, Config, Generator,
    api::ApiError,
    domain::{Event, InitialHouseholds, Kind, Plan, Planned, PlannedOrder},
    products::Products,
    registrar::Registrar,
};
use anyhow::anyhow;
use off_events::{Barcode, Quantity, SsdId, StockConsumed};
use off_kit::{Bus, Clock, Kit, Service, Tasks, bus::OutboundMessage, schedule::Schedule, telemetry};
use std::{iter, sync::Arc, time::Duration};
use tokio::{
    sync::{Semaphore, watch},
    time::Instant,
};
use tracing::{Instrument, debug, info, info_span, warn};
use uuid::Uuid;

/// Maximum number of concurrent events. Events above it are skipped, so that a slow service is not overloaded.
const MAX_CONCURRENT: u32 = 256;

/// Interval between log lines with statistics.
const REPORT_INTERVAL: Duration = Duration::from_secs(10);

/// Interval between two polls for due events.
const TICK: Duration = Duration::from_secs(1);

/// Maximum number of events per tick.
const MAX_PER_TICK: usize = 20_000;

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
    permits: Arc<Semaphore>,
}

/// A job of the schedule.
#[derive(Debug, Clone, Copy)]
enum Due {
    Tick,
    Report,
}

impl Runner {
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
        let config = &self.config;
        let registrar = Registrar::load(config.seed, self.app.clone(), self.tasks.clone()).await;
        let known = registrar.known();
        let goal = known.max(config.households);
        let (wanted, wanted_receiver) = watch::channel(goal);
        self.tasks.spawn("register", registrar.run(wanted_receiver));
        let mut plan = Plan::new(
            config.seed,
            config.pace(),
            config.weights(),
            InitialHouseholds { known, goal },
            config.supplier_delay_max + config.delivery_delay_max,
            self.clock.speed(),
        );
        let mut schedule = Schedule::new().await?;
        schedule.every(TICK, Due::Tick).await?;
        schedule.every(REPORT_INTERVAL, Due::Report).await?;
        schedule.start().await?;
        let tick = TICK.as_secs_f64() * self.clock.speed();
        let mut planned = iter::from_fn(|| plan.next()).peekable();
        let mut now = 0.0;
        loop {
            match schedule.next().await? {
                Due::Tick => {
                    let mut count = 0;
                    while count < MAX_PER_TICK
                        && let Some(event) = planned.next_if(|event| event.at <= now + tick)
                    {
                        let delay = Duration::from_secs_f64((event.at - now).max(0.0) / self.clock.speed());
                        self.spawn_event(event, delay, &wanted);
                        count += 1;
                    }
                    // Due events above the maximum stay for the next tick.
                    now = planned.peek().map_or(now + tick, |next| next.at.min(now + tick));
                }
                Due::Report => info!("{}", self.app.stats),
            }
        }
    }

    /// Executes an event in a new task after `delay`. Skips it if too many are in progress then.
    fn spawn_event(&self, Planned { number, event, .. }: Planned, delay: Duration, wanted: &watch::Sender<u32>) {
        let kind = match event {
            Event::Registration => return wanted.send_modify(|wanted| *wanted = wanted.saturating_add(1)),
            Event::Order(_) => Kind::Order,
            Event::Consumption(..) => Kind::Consumption,
            Event::Nothing(kind) => {
                debug!("{} {number} is skipped: there is no household or delivered order yet", kind.as_str());
                return;
            }
        };
        let runner = self.clone();
        // Not a supervised task: it ends within the timeouts of its requests, and shutdown waits for its permit.
        tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            let Ok(_permit) = runner.permits.try_acquire() else {
                debug!("{} {number} is skipped: {MAX_CONCURRENT} events are in progress", kind.as_str());
                return;
            };
            if runner.tasks.is_stopping() {
                return;
            }
            let span =
                info_span!("job", otel.name = format!("job.{}", kind.as_str()), trace_id = tracing::field::Empty);
            telemetry::continue_trace(&span, None);
            let execution = async {
                match event {
                    Event::Consumption(order, quantity) => runner.consume(number, &order, quantity).await,
                    Event::Order(order) => runner.order(number, &order).await,
                    Event::Registration | Event::Nothing(_) => Ok(()),
                }
            };
            if let Err(error) = execution.instrument(span).await {
                warn!("{} {number} failed: {error:#}", kind.as_str());
            }
        });
    }

    async fn order(&self, number: u64, order: &PlannedOrder) -> anyhow::Result<()> {
        let Some((ssd, barcode)) = self.find(order).await? else { return Ok(()) };
        let started = Instant::now();
        let outcome = self.app.api.order(&format!("{}:{number}", self.run), ssd, &barcode, order.quantity).await;
        self.app.stats.record(Kind::Order.as_str(), started.elapsed(), &outcome);
        Ok(outcome?)
    }

    async fn consume(&self, number: u64, order: &PlannedOrder, quantity: i64) -> anyhow::Result<()> {
        let Some((ssd_id, barcode)) = self.find(order).await? else { return Ok(()) };
        let report = StockConsumed {
            id: format!("{}:{number}", self.run),
            ssd_id,
            barcode,
            quantity: Quantity::try_from(quantity)?,
            timestamp: self.clock.now(),
        };
        let trace = telemetry::current_traceparent();
        let message = OutboundMessage::of(Generator::NAME, &report, report.timestamp, trace.as_deref())?;
        let started = Instant::now();
        let outcome = self.bus.publish(message).await.map_err(|error| ApiError::Unavailable(anyhow!(error)));
        self.app.stats.record(Kind::Consumption.as_str(), started.elapsed(), &outcome);
        Ok(outcome?)
    }

    /// The device and the product of an order; `None` at shutdown, or if the household or a product is missing.
    async fn find(&self, order: &PlannedOrder) -> anyhow::Result<Option<(SsdId, Barcode)>> {
        let lookup = async {
            let Some(ssd) = self.app.households.device(order).await else {
                debug!("household {} is not registered", order.household);
                return Ok(None);
            };
            let Some(barcode) = self.products.draw(ssd, order.product_seed).await? else {
                info!("the catalog is empty, so nothing is ordered");
                return Ok(None);
            };
            Ok(Some((ssd, barcode)))
        };
        tokio::select! {
            () = self.tasks.stopping() => Ok(None),
            found = lookup => found,
        }
    }
}
