//! Publishes all dead letters that match a filter again, at a limited rate; one such run at a time.

use crate::audits::AlreadyRunning;
use anyhow::Context;
use chrono::{DateTime, Utc};
use metrics::counter;
use off_events::streams::DEAD_LETTERS;
use off_kit::{
    Bus, Clock, Kit,
    bus::{
        Content,
        dead_letters::{self, DeadLetterError, Filter},
    },
};
use serde::Serialize;
use std::{
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval},
};
use tracing::{error, info};
use utoipa::ToSchema;

/// Dead letters that are read at a time.
const PAGE: usize = 500;

/// A dry run reads at most so many pages, because a caller waits for it.
const MAX_PAGES: usize = 20;

/// A run over all dead letters that match a filter.
#[derive(Debug, Clone, Default, Serialize, ToSchema)]
pub(crate) struct ReplayRun {
    /// Whether it only counts.
    pub(crate) dry_run: bool,
    /// Whether more may match: a dry run stops after 10,000.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    has_more: bool,
    /// Dead letters that matched so far.
    pub(crate) matched: u64,
    /// Those that were published again.
    replayed: u64,
    /// Those that stay, because they do not name the subject of their consumer, or have only a part of their body.
    skipped: u64,
    started_at: DateTime<Utc>,
    /// Absent while it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_at: Option<DateTime<Utc>>,
    /// Why it ended early.
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<&'static str>,
}

/// What to replay.
#[derive(Debug)]
struct Request {
    filter: Filter,
    per_second: u32,
}

/// The runs of this process. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Replays {
    requests: mpsc::Sender<Request>,
    latest: Arc<RwLock<Option<ReplayRun>>>,
    clock: Clock,
}

impl Replays {
    /// Spawns the task that runs them.
    pub(crate) fn start(kit: &Kit, bus: &Bus) -> Self {
        let (requests, mut requested) = mpsc::channel(1);
        let replays = Self { requests, latest: Arc::default(), clock: kit.clock };
        let (tasks, bus, running) = (kit.tasks.clone(), bus.clone(), replays.clone());
        kit.tasks.spawn("replays", async move {
            let run = async {
                while let Some(request) = requested.recv().await {
                    let outcome = running.run(&bus, &request).await;
                    running.end(outcome);
                }
            };
            tokio::select! {
                () = run => {}
                // What was not replayed stays a dead letter.
                () = tasks.stopping() => {}
            }
            Ok(())
        });
        replays
    }

    /// Starts a run that publishes at most `per_second` messages a second.
    pub(crate) fn request(&self, filter: Filter, per_second: u32) -> Result<ReplayRun, AlreadyRunning> {
        let mut latest = self.latest.write().unwrap_or_else(PoisonError::into_inner);
        if latest.as_ref().is_some_and(|run| run.ended_at.is_none()) {
            return Err(AlreadyRunning);
        }
        self.requests.try_send(Request { filter, per_second }).map_err(|_| AlreadyRunning)?;
        let run = ReplayRun { started_at: self.clock.now(), ..ReplayRun::default() };
        Ok(latest.insert(run).clone())
    }

    pub(crate) fn latest(&self) -> Option<ReplayRun> {
        self.latest.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn run(&self, bus: &Bus, request: &Request) -> anyhow::Result<()> {
        let newest = newest(bus).await?;
        let mut turns = interval(Duration::from_secs(1) / request.per_second.max(1));
        turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut next = Some(1);
        while let Some(from) = next {
            let page = dead_letters::page(bus, &request.filter, from, PAGE, Content::HeadersOnly).await?;
            // A message that cannot be handled again is a new dead letter, which is not of this run.
            next = page.next.filter(|next| *next <= newest);
            for letter in page.letters.into_iter().filter(|letter| letter.number <= newest) {
                turns.tick().await;
                match dead_letters::replay(bus, letter.number, None).await {
                    Ok(_) => {
                        counter!("off_dead_letters_replayed_total").increment(1);
                        self.count(|run| run.replayed += 1);
                    }
                    Err(DeadLetterError::WrongSubject(_) | DeadLetterError::Truncated(_)) => {
                        self.count(|run| run.skipped += 1);
                    }
                    // Somebody else replayed or dropped it meanwhile.
                    Err(DeadLetterError::Missing(_)) => continue,
                    Err(DeadLetterError::Broker(error)) => return Err(error),
                }
                self.count(|run| run.matched += 1);
            }
        }
        Ok(())
    }

    fn count(&self, change: impl FnOnce(&mut ReplayRun)) {
        let mut latest = self.latest.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(run) = latest.as_mut() {
            change(run);
        }
    }

    fn end(&self, outcome: anyhow::Result<()>) {
        let failure = outcome.err().map(|error| {
            error!("the replay of dead letters ended early: {error:#}");
            "the broker failed; those that are left are still dead letters"
        });
        let now = self.clock.now();
        self.count(|run| {
            (run.ended_at, run.failure) = (Some(now), failure);
            info!(replayed = run.replayed, skipped = run.skipped, "the replay of dead letters has ended");
        });
    }

    /// Counts the dead letters that match `filter`, and those of them that would stay.
    pub(crate) async fn dry_run(&self, bus: &Bus, filter: &Filter) -> anyhow::Result<ReplayRun> {
        let started_at = self.clock.now();
        let mut run = ReplayRun { dry_run: true, started_at, ..ReplayRun::default() };
        let (mut next, mut pages) = (Some(1), 0);
        while let Some(from) = next {
            let page = dead_letters::page(bus, filter, from, PAGE, Content::HeadersOnly).await?;
            run.matched += page.letters.len() as u64;
            let stays = page.letters.iter().filter(|letter| !letter.can_be_replayed());
            run.skipped += stays.count() as u64;
            pages += 1;
            run.has_more = pages == MAX_PAGES && page.next.is_some();
            next = page.next.filter(|_| !run.has_more);
        }
        run.ended_at = Some(self.clock.now());
        Ok(run)
    }
}

/// The number of the newest message in the stream of dead letters.
async fn newest(bus: &Bus) -> anyhow::Result<u64> {
    let stream = bus.jetstream.get_stream(DEAD_LETTERS.name).await.context("cannot read the dead letters")?;
    Ok(stream.cached_info().state.last_sequence)
}
