//! The state of the system: counts, rates, backlogs and what is slow. It is observed only while somebody looks.

use super::{
    Live,
    counts::OrderCounts,
    event::PublicEvent,
    names::Names,
    outbox,
    rates::{PeriodOfHistory, SecondOfHistory, TimeToStatus},
};
use crate::{
    board::{Board, ServiceState},
    client::{self, HttpClient},
    config::{Base, Services},
    routes::Upstream,
};
use anyhow::Context;
use axum::http::uri::PathAndQuery;
use chrono::{DateTime, Utc};
use futures::{StreamExt, TryStreamExt, future::join_all};
use off_events::{
    faults::{Fault, FaultKind},
    streams::{CONSUMERS, DEAD_LETTER_DROPPED, DEAD_LETTERS, STREAMS},
};
use off_kit::{Bus, Kit, LogLimit, bus::faults};
use serde::Serialize;
use std::{
    collections::BTreeMap,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicI64, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::{Notify, watch},
    time::timeout,
};
use tracing::warn;
use utoipa::ToSchema;

/// How often the state is made.
const INTERVAL: Duration = Duration::from_secs(1);

/// How often services and the broker are asked.
const ASK_INTERVAL: Duration = Duration::from_secs(2);

/// A service or broker that takes longer is left out.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Maximum size of an answer, in bytes.
const MAX_ANSWER_BYTES: usize = 2 * 1024 * 1024;

/// After a page was shown, the state is observed for this long, in seconds, so that the page has it when it loads again.
const KEPT_AFTER: i64 = 15;

/// For so long the first page for a while waits for a new state.
const FIRST_WAIT: Duration = Duration::from_millis(1500);

/// How many events the state has.
const LATEST: usize = 12;

/// The state of the system at one moment.
#[derive(Debug, Clone, Default, Serialize, ToSchema)]
pub(crate) struct SystemState {
    /// When it was made.
    pub(crate) at: DateTime<Utc>,
    /// By which factor the waits of orders are shortened.
    #[schema(example = 60.0)]
    pub(crate) speed: f64,
    /// Absent while the orders service does not answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) orders: Option<OrderCounts>,
    /// Events per second by subject, on average of the last ten seconds.
    pub(crate) per_second: BTreeMap<&'static str, f64>,
    /// How long orders took to each status, in the last five minutes.
    pub(crate) times: BTreeMap<&'static str, TimeToStatus>,
    /// The last second, and the ten seconds that go on, to continue `history`.
    last_second: SecondOfHistory,
    last_period: PeriodOfHistory,
    /// The backlog of each consumer; without those of streams whose consumers the broker does not list.
    pub(crate) consumers: Vec<ConsumerBacklog>,
    /// The age in seconds of the oldest message in the outbox of each service.
    pub(crate) outboxes: BTreeMap<String, f64>,
    /// How many dead letters there are; absent while the broker does not answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) dead_letters: Option<u64>,
    /// The failure switches that are on.
    pub(crate) faults: Vec<FaultKind>,
    pub(crate) services: Vec<ServiceInState>,
    /// The latest events, newest first.
    pub(crate) events: Vec<PublicEvent>,
}

/// A service and what is slow in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct ServiceInState {
    #[schema(example = "orders")]
    pub(crate) name: &'static str,
    pub(crate) status: ServiceState,
    /// How many things are slow or stalled there. `off doctor` and the service's health port say which.
    pub(crate) warnings: usize,
}

impl ServiceInState {
    pub(crate) fn has_warnings(&self) -> bool {
        self.warnings > 0
    }
}

/// How far a consumer is behind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct ConsumerBacklog {
    #[schema(example = "billing-pending")]
    pub(crate) name: &'static str,
    #[schema(example = "billing")]
    pub(crate) service: &'static str,
    /// Messages that were not delivered yet.
    pub(crate) waiting: u64,
    /// Messages that were delivered and are not acknowledged.
    pub(crate) unacknowledged: u64,
    /// Of these, messages that were delivered more than once.
    pub(crate) redelivered: u64,
}

/// The latest state, and who looks at it.
#[derive(Debug, Clone)]
pub(super) struct Watched {
    latest: watch::Sender<Arc<MadeState>>,
    viewers: Arc<AtomicUsize>,
    /// When a page had the state last, in seconds since 1970.
    shown_at: Arc<AtomicI64>,
    /// Wakes the observer for a page that is the first for a while.
    wanted: Arc<Notify>,
}

/// A state, and its JSON, which is made once for all viewers.
#[derive(Debug, Default)]
pub(super) struct MadeState {
    state: Arc<SystemState>,
    pub(super) json: String,
    /// When services and the broker were asked for it.
    observed_at: DateTime<Utc>,
}

/// A viewer of the state.
#[derive(Debug)]
pub(super) struct StateViewer {
    pub(super) states: watch::Receiver<Arc<MadeState>>,
    viewers: Arc<AtomicUsize>,
}

impl Default for Watched {
    fn default() -> Self {
        Self {
            latest: watch::Sender::new(Arc::default()),
            viewers: Arc::default(),
            shown_at: Arc::default(),
            wanted: Arc::default(),
        }
    }
}

impl Watched {
    /// The latest state, for a page that is made now. The first page for a while waits until the system was observed.
    pub(super) async fn latest(&self, now: DateTime<Utc>) -> Arc<SystemState> {
        let was_watched = self.is_watched(now);
        self.shown_at.store(now.timestamp(), Ordering::Relaxed);
        let mut states = self.latest.subscribe();
        if !was_watched {
            self.wanted.notify_one();
            // Without an answer in time, the page shows what was observed last.
            let _ = timeout(FIRST_WAIT, states.wait_for(|made| made.observed_at >= now)).await;
        }
        let latest = states.borrow();
        latest.state.clone()
    }

    /// Whether somebody looks at the state, or did so a moment ago.
    fn is_watched(&self, now: DateTime<Utc>) -> bool {
        let shown = now.timestamp() - self.shown_at.load(Ordering::Relaxed);
        self.viewers.load(Ordering::Relaxed) > 0 || shown < KEPT_AFTER
    }

    pub(super) fn enter(&self) -> StateViewer {
        self.viewers.fetch_add(1, Ordering::Relaxed);
        let mut states = self.latest.subscribe();
        // The first state follows at once.
        states.mark_changed();
        StateViewer { states, viewers: self.viewers.clone() }
    }
}

impl Drop for StateViewer {
    fn drop(&mut self) {
        self.viewers.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What services and the broker say.
#[derive(Debug, Clone, Default)]
struct Observed {
    at: DateTime<Utc>,
    orders: Option<OrderCounts>,
    consumers: Vec<ConsumerBacklog>,
    outboxes: BTreeMap<String, f64>,
    dead_letters: Option<u64>,
    faults: Vec<Fault>,
}

/// Whom to ask.
struct Observer {
    bus: Bus,
    client: HttpClient,
    orders: Base,
    /// The health ports of the services with an outbox.
    outboxes: Vec<Base>,
    timeout: Duration,
    log_limit: LogLimit,
}

/// Spawns tasks on `kit` that observe the system and make its state.
pub(super) fn start(
    kit: &Kit,
    bus: &Bus,
    services: &Services,
    client: &HttpClient,
    board: &Board,
    live: &Live,
) -> anyhow::Result<()> {
    let place = |upstream| services.place(upstream)?.with_context(|| format!("{upstream:?} has no URL"));
    let mut outboxes = Vec::new();
    for upstream in [Upstream::Auth, Upstream::Users, Upstream::Billing] {
        outboxes.push(place(upstream)?.health);
    }
    let observer = Observer {
        bus: bus.clone(),
        client: client.clone(),
        orders: place(Upstream::Orders)?.api,
        outboxes,
        timeout: kit.clock.shortened(TIMEOUT),
        log_limit: LogLimit::default(),
    };
    let observed = Arc::new(RwLock::new(Observed::default()));
    let (filled, watched, clock) = (observed.clone(), live.system.clone(), kit.clock);
    let mut every = kit.tasks.every(kit.clock.shortened(ASK_INTERVAL));
    kit.tasks.spawn("observe", async move {
        // Once at the start, so that the first page has numbers.
        let mut is_first = true;
        loop {
            tokio::select! {
                goes_on = every.tick() => if !goes_on { break },
                () = watched.wanted.notified() => {}
            }
            if std::mem::take(&mut is_first) || watched.is_watched(clock.now()) {
                let seen = observer.observe(clock.now()).await;
                *filled.write().unwrap_or_else(PoisonError::into_inner) = seen;
            }
        }
        Ok(())
    });
    let mut names = Names::new(client.clone(), place(Upstream::Orders)?.api);
    let (board, live) = (board.clone(), live.clone());
    let mut every = kit.tasks.every(kit.clock.shortened(INTERVAL));
    kit.tasks.spawn("state", async move {
        while every.tick().await {
            let observed = observed.read().unwrap_or_else(PoisonError::into_inner).clone();
            let observed_at = observed.at;
            let mut state = live.state(observed, &board, clock.now(), clock.speed());
            if live.system.is_watched(clock.now()) {
                names.look_up(state.events.iter().filter_map(|event| event.barcode.as_ref())).await;
            }
            for event in &mut state.events {
                event.name = event.barcode.as_ref().and_then(|barcode| names.get(barcode).cloned());
            }
            let json = serde_json::to_string(&state)?;
            live.system.latest.send_replace(Arc::new(MadeState { state: Arc::new(state), json, observed_at }));
        }
        Ok(())
    });
    Ok(())
}

impl Live {
    fn state(&self, observed: Observed, board: &Board, now: DateTime<Utc>, speed: f64) -> SystemState {
        let events = self.events.read().unwrap_or_else(PoisonError::into_inner);
        let services = board.entries().iter().map(|entry| ServiceInState {
            name: entry.upstream.name(),
            status: entry.state(),
            warnings: entry.warnings(),
        });
        let (last_second, last_period) = events.rates.newest(now);
        let Observed { orders, consumers, outboxes, dead_letters, faults, at: _ } = observed;
        let faults = faults.iter().filter(|fault| fault.until > now).map(|fault| fault.kind);
        SystemState {
            at: now,
            speed,
            orders,
            per_second: events.rates.per_second(now),
            times: events.rates.times(now),
            last_second,
            last_period,
            consumers,
            outboxes,
            dead_letters,
            faults: faults.collect(),
            services: services.collect(),
            events: events.ring.latest(LATEST).map(|event| event.public.clone()).collect(),
        }
    }
}

impl Observer {
    /// Asks everybody at the same time. Who does not answer is left out.
    async fn observe(&self, at: DateTime<Utc>) -> Observed {
        let (orders, outboxes, consumers, dead_letters, faults) = tokio::join!(
            self.count_orders(),
            self.read_outboxes(),
            self.list_consumers(),
            self.count_dead_letters(),
            self.list_faults(),
        );
        Observed {
            at,
            orders: self.log("the orders service does not count the orders", orders),
            outboxes,
            consumers,
            dead_letters: self.log("the broker does not count the dead letters", dead_letters),
            faults: self.log("the broker does not list the failure switches", faults).unwrap_or_default(),
        }
    }

    fn log<T>(&self, what: &str, result: anyhow::Result<T>) -> Option<T> {
        result
            .map_err(|error| {
                if let Some(suppressed) = self.log_limit.admit() {
                    warn!(suppressed, "{what}: {error:#}");
                }
            })
            .ok()
    }

    async fn count_orders(&self) -> anyhow::Result<OrderCounts> {
        let uri = self.orders.join(PathAndQuery::from_static("/api/orders/counts"));
        let (status, body) = client::get(&self.client, uri, MAX_ANSWER_BYTES, self.timeout).await?;
        anyhow::ensure!(status.is_success(), "it answered {status}");
        Ok(serde_json::from_slice(&body)?)
    }

    async fn read_outboxes(&self) -> BTreeMap<String, f64> {
        let asked = join_all(self.outboxes.iter().map(|health| {
            let uri = health.join(PathAndQuery::from_static("/metrics"));
            client::get(&self.client, uri, MAX_ANSWER_BYTES, self.timeout)
        }));
        let mut found = BTreeMap::new();
        for answer in asked.await {
            let Some((_, body)) = self.log("a service does not tell its metrics", answer) else { continue };
            let text = String::from_utf8_lossy(&body);
            found.extend(outbox::lags(&text).map(|(service, lag)| (service.to_owned(), lag)));
        }
        found
    }

    async fn list_consumers(&self) -> Vec<ConsumerBacklog> {
        let listed = join_all(STREAMS.iter().map(|stream| self.list_consumers_of(stream.name))).await;
        let of_streams =
            listed.into_iter().filter_map(|of| self.log("the broker does not list the consumers of a stream", of));
        let mut found: Vec<ConsumerBacklog> = of_streams.flatten().collect();
        found.sort_by_key(|consumer| (consumer.service, consumer.name));
        found
    }

    async fn list_consumers_of(&self, stream: &'static str) -> anyhow::Result<Vec<ConsumerBacklog>> {
        let listed = async {
            let infos = self.bus.jetstream.get_stream_no_info(stream).await?.consumers();
            anyhow::Ok(infos.map(|info| info.context("no info")).try_collect::<Vec<_>>().await?)
        };
        let infos = timeout(self.timeout, listed).await.context("no answer in time")?.context(stream)?;
        let backlogs = infos.into_iter().filter_map(|info| {
            // Others are temporary: somebody reads a stream.
            let consumer = CONSUMERS.iter().find(|known| known.name == info.name && known.stream == stream)?;
            Some(ConsumerBacklog {
                name: consumer.name,
                service: consumer.service,
                waiting: info.num_pending,
                unacknowledged: info.num_ack_pending as u64,
                redelivered: info.num_redelivered as u64,
            })
        });
        Ok(backlogs.collect())
    }

    async fn list_faults(&self) -> anyhow::Result<Vec<Fault>> {
        timeout(self.timeout, faults::list(&self.bus)).await.context("no answer in time")?
    }

    async fn count_dead_letters(&self) -> anyhow::Result<u64> {
        let counted = async {
            let stream = self.bus.jetstream.get_stream_no_info(DEAD_LETTERS.name).await?;
            let of_dropped = stream.info_with_subjects(DEAD_LETTER_DROPPED).await?;
            let all = of_dropped.info.state.messages;
            let dropped: usize =
                of_dropped.map_ok(|(_, count)| count).try_fold(0, async |sum, count| Ok(sum + count)).await?;
            anyhow::Ok(all.saturating_sub(dropped as u64))
        };
        timeout(self.timeout, counted).await.context("no answer in time")?
    }
}
