//! The last known state of each service, so that health is answered from memory.

use crate::{
    client::{self, HttpClient},
    config::{Base, Services},
    routes::Upstream,
};
use axum::http::uri::PathAndQuery;
use bytes::Bytes;
use off_kit::Kit;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::task::JoinSet;
use utoipa::ToSchema;

/// How often services are asked.
const POLL_INTERVAL: Duration = Duration::from_secs(5);

/// A service that takes longer is away.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Maximum size of an answer, in bytes.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// The state of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ServiceState {
    /// Not asked yet.
    Unknown,
    /// It is ready.
    Ok,
    /// It answers that it is not ready.
    NotReady,
    /// It does not answer.
    Away,
}

impl ServiceState {
    const ALL: [Self; 4] = [Self::Unknown, Self::Ok, Self::NotReady, Self::Away];
}

/// The part of `/readyz` that is shown.
#[derive(Default, Deserialize)]
struct Readiness {
    warnings: BTreeMap<String, serde_json::Value>,
}

/// The states of all services.
#[derive(Debug, Clone)]
pub(crate) struct Board(Arc<[Entry]>);

#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) upstream: Upstream,
    health: Base,
    state: AtomicU8,
    /// How many things are slow or stalled there.
    warnings: AtomicUsize,
}

impl Entry {
    pub(crate) fn state(&self) -> ServiceState {
        ServiceState::ALL.get(usize::from(self.state.load(Ordering::Relaxed))).copied().unwrap_or(ServiceState::Unknown)
    }

    /// How many things are slow or stalled there.
    pub(crate) fn warnings(&self) -> usize {
        self.warnings.load(Ordering::Relaxed)
    }

    /// Whether the system works only with this service.
    pub(crate) fn is_needed(&self) -> bool {
        !matches!(self.upstream, Upstream::Operator | Upstream::Generator)
    }
}

impl Board {
    /// Spawns a task on `kit` that asks the services.
    pub(crate) fn start(kit: &Kit, services: &Services, client: &HttpClient) -> anyhow::Result<Self> {
        let mut entries = Vec::new();
        for upstream in Upstream::ALL {
            if let Some(place) = services.place(upstream)? {
                entries.push(Entry {
                    upstream,
                    health: place.health,
                    state: AtomicU8::default(),
                    warnings: AtomicUsize::default(),
                });
            }
        }
        let board = Self(entries.into());
        let (polled, client, timeout) = (board.clone(), client.clone(), kit.clock.shortened(TIMEOUT));
        let mut every = kit.tasks.every(kit.clock.shortened(POLL_INTERVAL));
        kit.tasks.spawn("board", async move {
            while every.tick().await {
                let mut asked = JoinSet::new();
                for index in 0..polled.0.len() {
                    asked.spawn(polled.clone().ask(index, client.clone(), timeout));
                }
                asked.join_all().await;
            }
            Ok(())
        });
        Ok(board)
    }

    async fn ask(self, index: usize, client: HttpClient, timeout: Duration) {
        let Some(entry) = self.0.get(index) else { return };
        let uri = entry.health.join(PathAndQuery::from_static("/readyz"));
        let (state, readiness) = match client::get(&client, uri, MAX_ANSWER_BYTES, timeout).await {
            Ok((status, body)) if status.is_success() => (ServiceState::Ok, body),
            Ok((_, body)) => (ServiceState::NotReady, body),
            Err(_) => (ServiceState::Away, Bytes::new()),
        };
        entry.state.store(state as u8, Ordering::Relaxed);
        let Readiness { warnings } = serde_json::from_slice(&readiness).unwrap_or_default();
        entry.warnings.store(warnings.len(), Ordering::Relaxed);
    }

    pub(crate) fn entries(&self) -> &[Entry] {
        &self.0
    }
}
