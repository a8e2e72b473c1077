//! Sessions and keys that ended before their tokens expire.

use crate::{Bus, Clock, Kit, LogLimit, backoff::Backoff};
use anyhow::Context;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, PullConsumer, pull};
use chrono::{DateTime, Utc};
use futures::StreamExt;
use metrics::gauge;
use off_events::{Revoked, streams::AUTH};
use std::{
    collections::HashMap,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tracing::warn;
use uuid::Uuid;

/// The revoked ids whose tokens have not expired. The stream bounds their number. Clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct Revocations {
    until: Arc<RwLock<HashMap<Uuid, DateTime<Utc>>>>,
    /// Whether the stream was read to its end once.
    is_complete: Arc<AtomicBool>,
}

impl Revocations {
    /// Spawns a task on `kit` that reads the whole stream and follows it. The service is ready once it was read.
    pub(super) fn start(kit: &Kit, bus: &Bus) -> Self {
        let revocations = Self::default();
        let checked = revocations.clone();
        kit.readiness_checks.add("revocations", move || {
            let is_complete = checked.is_complete.load(Ordering::Relaxed);
            async move { if is_complete { Ok(()) } else { Err("the revoked sessions were not read yet".to_owned()) } }
        });
        let (following, bus, clock, tasks) = (revocations.clone(), bus.clone(), kit.clock, kit.tasks.clone());
        kit.tasks.spawn("revocations", async move {
            let (log_limit, mut backoff) = (LogLimit::default(), Backoff::default());
            loop {
                let ended = tokio::select! {
                    () = tasks.stopping() => return Ok(()),
                    ended = following.follow(&bus, clock, &mut backoff) => ended,
                };
                if let (Err(error), Some(suppressed)) = (ended, log_limit.admit()) {
                    warn!(suppressed, "cannot read the revoked sessions, retrying: {error:#}");
                }
                tokio::select! {
                    () = tasks.stopping() => return Ok(()),
                    () = tokio::time::sleep(backoff.pause()) => {}
                }
            }
        });
        revocations
    }

    /// Reads the stream from its beginning until an error. A repeated read changes nothing.
    async fn follow(&self, bus: &Bus, clock: Clock, backoff: &mut Backoff) -> anyhow::Result<()> {
        let config = pull::Config {
            deliver_policy: DeliverPolicy::All,
            ack_policy: AckPolicy::None,
            filter_subject: Revoked::SUBJECT.to_owned(),
            inactive_threshold: Duration::from_secs(30),
            memory_storage: true,
            num_replicas: 1,
            ..pull::Config::default()
        };
        let reader: PullConsumer =
            bus.jetstream.create_consumer_on_stream(config, AUTH.name).await.context("no consumer")?;
        let mut unread = reader.cached_info().num_pending;
        let messages = reader.stream().heartbeat(Duration::from_secs(1)).expires(Duration::from_secs(10));
        let mut messages = messages.messages().await?;
        if unread == 0 {
            self.is_complete.store(true, Ordering::Relaxed);
        }
        *backoff = Backoff::default();
        while let Some(message) = messages.next().await {
            let message = message?;
            match serde_json::from_slice::<Revoked>(&message.payload) {
                Ok(revoked) => self.add(&revoked, clock.now()),
                Err(error) => warn!("a message on {} is not readable: {error}", Revoked::SUBJECT),
            }
            unread = unread.saturating_sub(1);
            if unread == 0 {
                self.is_complete.store(true, Ordering::Relaxed);
            }
        }
        anyhow::bail!("the broker ended the subscription")
    }

    fn add(&self, revoked: &Revoked, now: DateTime<Utc>) {
        let mut until = self.until.write().unwrap_or_else(PoisonError::into_inner);
        until.retain(|_, until| *until > now);
        if revoked.until > now {
            until.insert(revoked.sid, revoked.until);
        }
        gauge!("off_revocations").set(until.len() as f64);
    }

    /// Whether the tokens of this session or key are revoked.
    pub(super) fn contains(&self, sid: Uuid) -> bool {
        self.until.read().unwrap_or_else(PoisonError::into_inner).contains_key(&sid)
    }
}
