//! Life: carries out the plan, each event when it is due.

use crate::{
    App, Config, Generator,
    api::ApiError,
    domain::{Event, Kind, Plan, Planned, PlannedOrder, Settling},
    products::Products,
    registrar::Registrar,
};
use anyhow::anyhow;
use off_events::{Barcode, Quantity, SsdId, StockConsumed};
use off_kit::{Bus, Clock, Kit, Service, Tasks, bus::Outgoing, schedule::Schedule, telemetry};
use std::{iter, sync::Arc, time::Duration};
use tokio::{
    sync::{Semaphore, watch},
    time::Instant,
};
use tracing::{Instrument, debug, info, info_span, warn};
use uuid::Uuid;

/// Events under way at once; what is due beyond that is left out, so that a slow service is not overloaded.
const AT_ONCE: u32 = 256;

/// How often it reports.
const REPORT_EVERY: Duration = Duration::from_secs(10);

/// How often it looks what is due.
const BEAT: Duration = Duration::from_secs(1);

/// The most events in a beat.
const MOST_IN_A_BEAT: usize = 20_000;

/// What life needs. Clones live the same life.
#[derive(Debug, Clone)]
pub(crate) struct Life {
    config: Arc<Config>,
    app: App,
    products: Products,
    bus: Bus,
    clock: Clock,
    tasks: Tasks,
    /// Names what this run sends, so that it is never taken for what an earlier one sent.
    run: Uuid,
    free: Arc<Semaphore>,
}

/// What the schedule makes due.
#[derive(Debug, Clone, Copy)]
enum Due {
    Beat,
    Report,
}

impl Life {
    pub(crate) fn new(config: Config, app: App, products: Products, bus: Bus, kit: &Kit) -> Self {
        Self {
            config: Arc::new(config),
            app,
            products,
            bus,
            clock: kit.clock,
            tasks: kit.tasks.clone(),
            run: Uuid::now_v7(),
            free: Arc::new(Semaphore::new(AT_ONCE as usize)),
        }
    }

    /// Lives until it is time to stop; then waits for what is under way.
    pub(crate) fn start(self, kit: &Kit) {
        kit.tasks.spawn("life", async move {
            tokio::select! {
                () = self.tasks.stopping() => {}
                lived = self.live() => lived?,
            }
            let _ = self.free.acquire_many(AT_ONCE).await;
            info!("{}", self.app.stats);
            Ok(())
        });
    }

    async fn live(&self) -> anyhow::Result<()> {
        let config = &self.config;
        let registrar = Registrar::meet(config.seed, self.app.clone(), self.tasks.clone()).await;
        let known = registrar.known();
        let goal = known.max(config.households);
        let (wanted, wanting) = watch::channel(goal);
        self.tasks.spawn("register", registrar.run(wanting));
        let mut plan = Plan::new(
            config.seed,
            config.pace(),
            config.weights(),
            Settling { known, goal },
            config.supplier_delay_max + config.delivery_delay_max,
            self.clock.speed(),
        );
        let mut schedule = Schedule::new().await?;
        schedule.every(BEAT, Due::Beat).await?;
        schedule.every(REPORT_EVERY, Due::Report).await?;
        schedule.start().await?;
        let beat = BEAT.as_secs_f64() * self.clock.speed();
        let mut planned = iter::from_fn(|| plan.next()).peekable();
        let mut now = 0.0;
        loop {
            match schedule.next().await? {
                Due::Beat => {
                    let mut count = 0;
                    while count < MOST_IN_A_BEAT
                        && let Some(event) = planned.next_if(|event| event.at <= now + beat)
                    {
                        let delay = Duration::from_secs_f64((event.at - now).max(0.0) / self.clock.speed());
                        self.begin(event, delay, &wanted);
                        count += 1;
                    }
                    // Where more is due than fits, the rest is due in the next beat.
                    now = planned.peek().map_or(now + beat, |next| next.at.min(now + beat));
                }
                Due::Report => info!("{}", self.app.stats),
            }
        }
    }

    /// Starts an event after `delay`, unless too many are under way then.
    fn begin(&self, Planned { number, event, .. }: Planned, delay: Duration, wanted: &watch::Sender<u32>) {
        let kind = match event {
            Event::Registration => return wanted.send_modify(|wanted| *wanted = wanted.saturating_add(1)),
            Event::Order(_) => Kind::Order,
            Event::Consumption(..) => Kind::Consumption,
            Event::Nothing(kind) => return debug!("nothing for {} {number} yet", kind.as_str()),
        };
        let life = self.clone();
        // Not a task of its own right: it ends within the limits of its requests, and `free` waits for it.
        tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            let Ok(_permit) = life.free.try_acquire() else {
                debug!("{} {number} is left out: {AT_ONCE} events are under way", kind.as_str());
                return;
            };
            if life.tasks.is_stopping() {
                return;
            }
            let span =
                info_span!("job", otel.name = format!("job.{}", kind.as_str()), trace_id = tracing::field::Empty);
            telemetry::continue_trace(&span, None);
            let happening = async {
                match event {
                    Event::Consumption(order, quantity) => life.consume(number, &order, quantity).await,
                    Event::Order(order) => life.order(number, &order).await,
                    Event::Registration | Event::Nothing(_) => Ok(()),
                }
            };
            if let Err(error) = happening.instrument(span).await {
                warn!("{} {number} came to nothing: {error:#}", kind.as_str());
            }
        });
    }

    async fn order(&self, number: u64, order: &PlannedOrder) -> anyhow::Result<()> {
        let Some((ssd, barcode)) = self.find(order).await? else { return Ok(()) };
        let started = Instant::now();
        let outcome = self.app.api.order(&format!("{}:{number}", self.run), ssd, &barcode, order.quantity).await;
        self.app.stats.note(Kind::Order.as_str(), started.elapsed(), &outcome);
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
        let message = Outgoing::of(Generator::NAME, &report, report.timestamp, trace.as_deref())?;
        let started = Instant::now();
        let outcome = self.bus.publish(message).await.map_err(|error| ApiError::Unavailable(anyhow!(error)));
        self.app.stats.note(Kind::Consumption.as_str(), started.elapsed(), &outcome);
        Ok(outcome?)
    }

    /// The device and the product of an order; `None` when it is time to stop, or there is no such household or no product.
    async fn find(&self, order: &PlannedOrder) -> anyhow::Result<Option<(SsdId, Barcode)>> {
        let finding = async {
            let Some(ssd) = self.app.households.device(order).await else {
                debug!("household {} has not registered", order.household);
                return Ok(None);
            };
            let Some(barcode) = self.products.draw(ssd, order.product_seed).await? else {
                info!("the catalogue is empty: nothing is ordered");
                return Ok(None);
            };
            Ok(Some((ssd, barcode)))
        };
        tokio::select! {
            () = self.tasks.stopping() => Ok(None),
            found = finding => found,
        }
    }
}
