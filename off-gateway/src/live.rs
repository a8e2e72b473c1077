//! The system as it is now: events as they happen, rates, counts and backlogs, for any number of viewers at the cost of one.

mod counts;
mod event;
mod follow;
pub(crate) mod http;
mod names;
mod outbox;
mod rates;
mod ring;
mod system;

pub(crate) use event::LiveEvent;
pub(crate) use http::LiveApi;
pub(crate) use rates::TimeToStatus;
pub(crate) use ring::Cursor;
pub(crate) use system::SystemState;

use crate::{board::Board, client::HttpClient, config::Services, streams::Streams};
use chrono::{DateTime, Utc};
use event::Source;
use off_kit::{Bus, Clock, Kit};
use rates::{History, Rates};
use ring::{Next, Position, Ring};
use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};
use system::Watched;
use tokio::{sync::watch, time::timeout};

/// The broker does not tell the newest message of a stream if it takes longer.
const TIMEOUT: Duration = Duration::from_secs(2);

/// The present. Clones share it.
#[derive(Clone)]
pub(crate) struct Live {
    clock: Clock,
    bus: Bus,
    events: Arc<RwLock<Events>>,
    /// The position after the newest event.
    newest: watch::Sender<Position>,
    system: Watched,
    pub(crate) streams: Streams,
}

struct Events {
    ring: Ring,
    rates: Rates,
}

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Live").finish_non_exhaustive()
    }
}

impl Live {
    /// Spawns tasks on `kit` that follow the streams and observe the system.
    pub(crate) fn start(
        kit: &Kit,
        bus: &Bus,
        services: &Services,
        client: &HttpClient,
        board: &Board,
        streams: Streams,
    ) -> anyhow::Result<Self> {
        let live = Self {
            clock: kit.clock,
            bus: bus.clone(),
            events: Arc::new(RwLock::new(Events { ring: Ring::default(), rates: Rates::new() })),
            newest: watch::Sender::new(0),
            system: Watched::default(),
            streams,
        };
        for source in Source::ALL {
            follow::start(kit, bus, source, &live);
        }
        system::start(kit, bus, services, client, board, &live)?;
        Ok(live)
    }

    fn begin(&self, source: Source, sequence: u64, created: u64, newest: u64) {
        self.events.write().unwrap_or_else(PoisonError::into_inner).ring.begin(source, sequence, created, newest);
    }

    fn push(&self, event: LiveEvent) {
        let mut events = self.events.write().unwrap_or_else(PoisonError::into_inner);
        events.rates.add(&event, self.clock.now());
        events.ring.push(event);
        let (position, _) = events.ring.end();
        drop(events);
        self.newest.send_replace(position);
    }

    /// A message that is no event.
    fn pass(&self, source: Source, sequence: u64) {
        self.events.write().unwrap_or_else(PoisonError::into_inner).ring.pass(source, sequence);
    }

    /// The position of a viewer who has seen everything up to `cursor`, and whether they missed something. Without a
    /// cursor they begin now.
    fn enter(&self, cursor: Option<Cursor>) -> (Position, Cursor, bool) {
        let events = self.events.read().unwrap_or_else(PoisonError::into_inner);
        let (end, newest) = events.ring.present();
        match cursor.map(|cursor| (events.ring.position_after(cursor), cursor)) {
            Some((Some(position), cursor)) => (position, cursor, false),
            Some((None, _)) => (end, newest, true),
            None => (end, newest, false),
        }
    }

    /// Whether the streams have all that was seen up to `cursor`: another replica may have read more than this one, but a
    /// stream that was restored from a copy has less. Not if the broker does not answer.
    async fn is_known(&self, cursor: Cursor) -> bool {
        let ahead: Vec<_> = self.events.read().unwrap_or_else(PoisonError::into_inner).ring.ahead(cursor).collect();
        for (source, sequence) in ahead {
            let stream = timeout(self.clock.shortened(TIMEOUT), self.bus.jetstream.get_stream(source.stream())).await;
            if !stream
                .is_ok_and(|stream| stream.is_ok_and(|stream| stream.cached_info().state.last_sequence >= sequence))
            {
                return false;
            }
        }
        true
    }

    fn after(&self, position: Position, seen: Cursor, is_wanted: impl Fn(&LiveEvent) -> bool) -> Next {
        self.events.read().unwrap_or_else(PoisonError::into_inner).ring.after(position, seen, is_wanted)
    }

    /// The last five minutes.
    fn history(&self) -> History {
        let events = self.events.read().unwrap_or_else(PoisonError::into_inner);
        events.rates.history(self.clock.now())
    }

    pub(crate) fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    /// The system as it is now.
    pub(crate) async fn system(&self) -> Arc<SystemState> {
        self.system.latest(self.clock.now()).await
    }
}
