//! Readiness checks of a service.

use crate::Clock;
use futures::future::{BoxFuture, join_all};
use serde::Serialize;
use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};
use tokio::{
    sync::Mutex,
    task::JoinHandle,
    time::{Instant, timeout},
};
use utoipa::ToSchema;

/// A check that takes longer than this counts as failed. It continues to run, so that a slow connection is still
/// established.
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);

/// A check that takes longer than this is aborted, and started again by the next readiness request.
const ABORT_AFTER: Duration = Duration::from_secs(15);

/// Returns a text if something is slow or stalled.
type Warning = Arc<dyn Fn() -> Option<String> + Send + Sync>;

type Check = Arc<dyn Fn() -> BoxFuture<'static, Result<(), String>> + Send + Sync>;

/// How long a result is cached: the checks run at most once in this time.
const CACHE_TIME: Duration = Duration::from_secs(1);

/// The readiness checks and warnings of a service, by name. Clones share them.
#[derive(Clone)]
pub struct ReadinessChecks {
    /// Timeout after which a check is aborted.
    abort_after: Duration,
    checks: Arc<RwLock<BTreeMap<&'static str, Check>>>,
    warnings: Arc<RwLock<BTreeMap<&'static str, Warning>>>,
    checked: Arc<Mutex<Checked>>,
}

/// The state of the checks.
#[derive(Default)]
struct Checked {
    last: Option<(Instant, Outcomes)>,
    /// Checks that did not finish in time, and when they started.
    running: BTreeMap<&'static str, (Instant, RunningCheck)>,
}

type RunningCheck = JoinHandle<Result<(), String>>;

/// The outcome of each check: `ok`, or what is wrong.
type Outcomes = BTreeMap<&'static str, String>;

impl fmt::Debug for ReadinessChecks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadinessChecks").finish_non_exhaustive()
    }
}

/// The response of `/readyz`.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Readiness {
    /// The name of the service.
    #[schema(example = "orders")]
    pub service: &'static str,
    /// The version of the program.
    #[schema(example = "0.1.0")]
    pub version: &'static str,
    /// Whether all readiness checks passed.
    pub ready: bool,
    /// The outcome of each readiness check: `ok`, or what is wrong.
    #[schema(example = json!({"nats": "ok", "postgres": "ok"}))]
    pub checks: BTreeMap<&'static str, String>,
    /// What is slow or stalled, and what to do about it. Warnings do not affect readiness.
    #[schema(example = json!({"outbox": "messages wait for the broker, the oldest for 42 s"}))]
    pub warnings: BTreeMap<&'static str, String>,
}

impl ReadinessChecks {
    /// No checks yet.
    pub fn new(clock: Clock) -> Self {
        Self {
            abort_after: clock.shortened(ABORT_AFTER),
            checks: Arc::default(),
            warnings: Arc::default(),
            checked: Arc::default(),
        }
    }

    /// Adds a readiness check; its error is a short text for people.
    pub fn add<F>(&self, name: &'static str, check: impl Fn() -> F + Send + Sync + 'static)
    where
        F: Future<Output = Result<(), String>> + Send + 'static,
    {
        let check: Check = Arc::new(move || Box::pin(check()));
        self.checks.write().unwrap_or_else(PoisonError::into_inner).insert(name, check);
    }

    /// Adds a warning: one sentence that says what is slow or stalled and what to do about it, or `None`.
    pub fn add_warning(&self, name: &'static str, warning: impl Fn() -> Option<String> + Send + Sync + 'static) {
        self.warnings.write().unwrap_or_else(PoisonError::into_inner).insert(name, Arc::new(warning));
    }

    /// Runs all checks concurrently; caches the outcomes for 1 s. A service that is `stopping` is not ready.
    pub async fn readiness(&self, service: &'static str, stopping: bool) -> Readiness {
        // In a separate task, so that the checks continue when the client disconnects.
        let checks = self.clone();
        let outcomes = tokio::spawn(async move { checks.outcomes().await }).await;
        let mut checks = outcomes.unwrap_or_else(|_| BTreeMap::from([("health", "the checks failed".to_owned())]));
        if stopping {
            checks.insert("running", "the service is shutting down".to_owned());
        }
        let ready = checks.values().all(|outcome| outcome == "ok");
        let warnings = self.warnings.read().unwrap_or_else(PoisonError::into_inner);
        let warnings = warnings.iter().filter_map(|(&name, warning)| Some((name, warning()?))).collect();
        Readiness { service, version: env!("CARGO_PKG_VERSION"), ready, checks, warnings }
    }

    async fn outcomes(&self) -> Outcomes {
        // The lock makes concurrent calls wait for the same outcomes.
        let mut checked = self.checked.lock().await;
        if let Some((checked_at, outcomes)) = &checked.last
            && checked_at.elapsed() < CACHE_TIME
        {
            return outcomes.clone();
        }
        let checks = self.checks.read().unwrap_or_else(PoisonError::into_inner).clone();
        let mut running = std::mem::take(&mut checked.running);
        let answers = join_all(checks.into_iter().map(|(name, check)| {
            let (since, mut answer) = running.remove(name).unwrap_or_else(|| (Instant::now(), tokio::spawn(check())));
            async move {
                let outcome = timeout(CHECK_TIMEOUT, &mut answer).await;
                (name, since, answer, outcome)
            }
        }));
        let mut outcomes = Outcomes::new();
        for (name, since, answer, outcome) in answers.await {
            let text = match outcome {
                Ok(Ok(Ok(()))) => "ok".to_owned(),
                Ok(Ok(Err(problem))) => problem,
                Ok(Err(_)) => "the check failed".to_owned(),
                Err(_) if since.elapsed() > self.abort_after => {
                    answer.abort();
                    timeout_text()
                }
                Err(_) => {
                    checked.running.insert(name, (since, answer));
                    timeout_text()
                }
            };
            outcomes.insert(name, text);
        }
        checked.last = Some((Instant::now(), outcomes.clone()));
        outcomes
    }
}

fn timeout_text() -> String {
    format!("no answer within {} s", CHECK_TIMEOUT.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[tokio::test(start_paused = true)]
    async fn concurrent_requests_run_the_checks_once_a_second() {
        let runs = Arc::new(AtomicU32::new(0));
        let (checks, counted) = (ReadinessChecks::new(Clock::real(1.0)), runs.clone());
        checks.add("example", move || {
            let count = counted.fetch_add(1, Ordering::Relaxed);
            async move { if count == 0 { Ok(()) } else { Err("unavailable".to_owned()) } }
        });
        let answers = join_all((0..50).map(|_| checks.readiness("test", false))).await;
        assert!(answers.iter().all(|answer| answer.ready) && runs.load(Ordering::Relaxed) == 1);
        tokio::time::advance(CACHE_TIME).await;
        let answer = checks.readiness("test", false).await;
        assert_eq!((answer.ready, answer.checks["example"].as_str()), (false, "unavailable"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_check_continues_and_counts_when_it_finishes() {
        let started = Arc::new(AtomicU32::new(0));
        let (checks, counted) = (ReadinessChecks::new(Clock::real(1.0)), started.clone());
        checks.add("slow", move || {
            counted.fetch_add(1, Ordering::Relaxed);
            async {
                tokio::time::sleep(CHECK_TIMEOUT * 2).await;
                Ok(())
            }
        });
        assert_eq!(checks.readiness("test", false).await.checks["slow"], "no answer within 2 s");
        tokio::time::advance(CACHE_TIME).await;
        assert!(checks.readiness("test", false).await.ready);
        assert_eq!(started.load(Ordering::Relaxed), 1);
    }
}
