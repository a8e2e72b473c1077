//! People who watch their own events (`/api/me/live`) while faults are injected, as a page does: they connect again with
//! the id of the last event, and get what they missed, or one event `resync`.

use crate::reconcile::Verdict;
use anyhow::Context;
use chrono::{DateTime, Utc};
use off_events::{Order, OrderStatus, UserId, headers::CE_ID, streams};
use off_kit::{Bus, Clock, backoff::Backoff};
use reqwest::{Client, Response, header};
use serde_json::{Value, json};
use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

/// The gateway sends something every 15 seconds; a viewer who gets nothing for longer connects again.
const SILENCE: Duration = Duration::from_secs(20);

/// How long viewers may take to get the last events after the system has drained.
const CATCH_UP: Duration = Duration::from_secs(30);

/// Events around a `resync` may be before or after it.
const TOLERANCE: chrono::TimeDelta = chrono::TimeDelta::seconds(2);

/// Attempts to sign in.
const MAX_ATTEMPTS: usize = 30;

/// The cookie of a session, see `off-gateway`.
const COOKIE: &str = "__Host-off-session";

/// All viewers. They stop when this is dropped.
#[derive(Debug)]
pub(crate) struct Viewers {
    viewers: Vec<Arc<Viewer>>,
    _tasks: JoinSet<()>,
}

/// A person who watches.
#[derive(Debug)]
struct Viewer {
    user: UserId,
    url: String,
    session_key: String,
    clock: Clock,
    seen: Mutex<Seen>,
}

/// What a viewer has seen.
#[derive(Debug)]
struct Seen {
    /// The ids of all events.
    events: HashSet<String>,
    /// Since when nothing may be missing: the last `resync`, or the beginning.
    since: DateTime<Utc>,
    last_id: String,
    connections: u64,
    resyncs: u64,
}

impl Viewers {
    /// Signs people in, each by number, and begins to watch their events at the gateway at `url`.
    pub(crate) async fn start(url: &str, people: &[(u64, UserId)], clock: Clock) -> anyhow::Result<Self> {
        // Without a timeout: a stream has no end.
        let client = Client::builder().no_proxy().build()?;
        let (mut viewers, mut tasks) = (Vec::new(), JoinSet::new());
        for &(number, user) in people {
            let session_key = sign_in(&client, url, number).await?;
            let seen =
                Seen { events: HashSet::new(), since: clock.now(), last_id: String::new(), connections: 0, resyncs: 0 };
            let viewer = Viewer { user, url: url.to_owned(), session_key, clock, seen: Mutex::new(seen) };
            let viewer = Arc::new(viewer);
            tasks.spawn(viewer.clone().watch(client.clone()));
            viewers.push(viewer);
        }
        Ok(Self { viewers, _tasks: tasks })
    }

    /// Every event that the broker still has, and that happened since the viewer must have all, was seen.
    pub(crate) async fn check(&self, bus: &Bus) -> anyhow::Result<Verdict> {
        let deadline = Instant::now() + CATCH_UP;
        let mut findings = self.missing(bus).await?;
        while !findings.is_empty() && Instant::now() < deadline {
            sleep(Duration::from_millis(500)).await;
            findings = self.missing(bus).await?;
        }
        let (mut connections, mut resyncs, mut events) = (0, 0, 0);
        for viewer in &self.viewers {
            let seen = viewer.seen();
            connections += seen.connections;
            resyncs += seen.resyncs;
            events += seen.events.len();
        }
        let viewers = self.viewers.len();
        let claim = format!(
            "{viewers} viewers saw {events} events without a gap, over {connections} connections, with {resyncs} resyncs"
        );
        Ok(Verdict::new("viewers", claim, findings))
    }

    async fn missing(&self, bus: &Bus) -> anyhow::Result<Vec<String>> {
        let mut findings = Vec::new();
        let mut messages = Vec::new();
        for status in OrderStatus::ALL {
            messages.extend(bus.read(streams::ORDERS.name, status.subject(), 1).await?);
        }
        for message in messages {
            let Ok(order) = serde_json::from_slice::<Order>(&message.payload) else { continue };
            let Some(viewer) = self.viewers.iter().find(|viewer| viewer.user == order.user_id) else { continue };
            let id = message.headers.as_ref().and_then(|headers| headers.get(CE_ID)).map(ToString::to_string);
            let (Some(id), Ok(info)) = (id, message.info()) else { continue };
            let stored = DateTime::from_timestamp(info.published.unix_timestamp(), info.published.nanosecond());
            let seen = viewer.seen();
            let is_expected = stored.is_some_and(|stored| stored > seen.since + TOLERANCE);
            if is_expected && !seen.events.contains(&id) {
                findings.push(format!("person {} did not see {id}, which is in the stream", viewer.user));
            }
        }
        Ok(findings)
    }
}

impl Viewer {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn watch(self: Arc<Self>, client: Client) {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));
        loop {
            if let Ok(response) = self.connect(&client).await {
                backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));
                // Whatever ends it, the next connection continues.
                let _ = self.read(response).await;
            }
            sleep(backoff.pause()).await;
        }
    }

    async fn connect(&self, client: &Client) -> anyhow::Result<Response> {
        let last_id = self.seen().last_id.clone();
        let request = client.get(format!("{}/api/me/live", self.url));
        let request = request.header(header::COOKIE, format!("{COOKIE}={}", self.session_key));
        let response = timeout(SILENCE, request.header("last-event-id", last_id).send()).await??;
        let response = response.error_for_status()?;
        self.seen().connections += 1;
        Ok(response)
    }

    /// Reads events until the connection ends or is silent.
    async fn read(&self, mut response: Response) -> anyhow::Result<()> {
        let (mut buffer, mut event) = (Vec::new(), PartialEvent::default());
        loop {
            let chunk = timeout(SILENCE, response.chunk()).await??.context("the stream ended")?;
            buffer.extend_from_slice(&chunk);
            while let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = buffer.drain(..=end).collect();
                let line = String::from_utf8_lossy(&line);
                match line.trim_end().split_once(':') {
                    Some(("id", id)) => event.id = Some(id.trim().to_owned()),
                    Some(("event", name)) => name.trim().clone_into(&mut event.name),
                    Some(("data", data)) => event.data.push_str(data.trim()),
                    None if line.trim_end().is_empty() => self.see(std::mem::take(&mut event)),
                    Some(_) | None => {}
                }
            }
        }
    }

    fn see(&self, event: PartialEvent) {
        let mut seen = self.seen();
        if event.name == "resync" {
            seen.since = self.clock.now();
            seen.resyncs += 1;
        }
        let data: Value = serde_json::from_str(&event.data).unwrap_or_default();
        seen.events.extend(data["event_id"].as_str().map(ToOwned::to_owned));
        if let Some(id) = event.id {
            seen.last_id = id;
        }
    }
}

/// The lines of an event so far.
#[derive(Debug, Default)]
struct PartialEvent {
    id: Option<String>,
    name: String,
    data: String,
}

/// Signs the person with this number in, like a browser; returns the key of the session.
async fn sign_in(client: &Client, url: &str, number: u64) -> anyhow::Result<String> {
    let (email, password) = crate::clients::credentials(number);
    let body = json!({"email": email, "password": password, "session_key": true});
    let mut backoff = Backoff::default();
    for _ in 0..MAX_ATTEMPTS {
        let sent = client.post(format!("{url}/api/login")).json(&body).timeout(SILENCE).send().await;
        if let Ok(response) = sent.and_then(Response::error_for_status) {
            let body: Value = response.json().await?;
            return Ok(body["session_key"].as_str().context("no session key in the response")?.to_owned());
        }
        sleep(backoff.pause()).await;
    }
    anyhow::bail!("person {number} cannot sign in")
}
