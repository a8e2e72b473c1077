//! Whether a service has what it needs.

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

/// Longer than this a check is as good as failed. It goes on, so that a connection that takes long is made all the same.
const CHECK_WITHIN: Duration = Duration::from_secs(2);

/// A check that takes longer than this is given up, and started anew by the next one who asks.
const GIVEN_UP_AFTER: Duration = Duration::from_secs(15);

/// Says what is slow or stuck, if anything.
type Warning = Arc<dyn Fn() -> Option<String> + Send + Sync>;

type Check = Arc<dyn Fn() -> BoxFuture<'static, Result<(), String>> + Send + Sync>;

/// How long an answer is good for: however often it is asked for, the checks run once in this time.
const KEPT_FOR: Duration = Duration::from_secs(1);

/// What a service needs, by name. Clones speak of the same needs.
#[derive(Clone, Default)]
pub struct Needs {
    checks: Arc<RwLock<BTreeMap<&'static str, Check>>>,
    warnings: Arc<RwLock<BTreeMap<&'static str, Warning>>>,
    checked: Arc<Mutex<Checked>>,
}

/// What came of the checks.
#[derive(Default)]
struct Checked {
    last: Option<(Instant, Outcomes)>,
    /// Checks that did not answer in time, and since when they run.
    running: BTreeMap<&'static str, (Instant, RunningCheck)>,
}

type RunningCheck = JoinHandle<Result<(), String>>;

/// What came of each check.
type Outcomes = BTreeMap<&'static str, String>;

impl fmt::Debug for Needs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Needs").finish_non_exhaustive()
    }
}

/// What `/readyz` answers.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Readiness {
    #[schema(example = "orders")]
    pub service: &'static str,
    #[schema(example = "0.1.0")]
    pub version: &'static str,
    pub ready: bool,
    /// Each thing the service needs: `ok`, or what is wrong with it.
    #[schema(example = json!({"nats": "ok", "postgres": "ok"}))]
    pub needs: BTreeMap<&'static str, String>,
    /// What is slow or stuck, and what to do about it. The service takes requests all the same.
    #[schema(example = json!({"outbox": "messages wait for the broker, the oldest for 42 s"}))]
    pub warnings: BTreeMap<&'static str, String>,
}

impl Needs {
    /// Adds something the service needs; `check` says in a few words what is wrong with it.
    pub fn add<F>(&self, name: &'static str, check: impl Fn() -> F + Send + Sync + 'static)
    where
        F: Future<Output = Result<(), String>> + Send + 'static,
    {
        let check: Check = Arc::new(move || Box::pin(check()));
        self.checks.write().unwrap_or_else(PoisonError::into_inner).insert(name, check);
    }

    /// Adds something that may be slow or stuck; `warning` says in a sentence what is, and what to do about it.
    pub fn add_warning(&self, name: &'static str, warning: impl Fn() -> Option<String> + Send + Sync + 'static) {
        self.warnings.write().unwrap_or_else(PoisonError::into_inner).insert(name, Arc::new(warning));
    }

    /// Whether all checks pass. They run at once, and not again for a second.
    pub async fn readiness(&self, service: &'static str, stopping: bool) -> Readiness {
        // In a task of its own: who asks may go away before the answer, and the checks go on.
        let asked = self.clone();
        let outcomes = tokio::spawn(async move { asked.outcomes().await }).await;
        let mut needs = outcomes.unwrap_or_else(|_| BTreeMap::from([("health", "the checks failed".to_owned())]));
        if stopping {
            needs.insert("running", "the service is shutting down".to_owned());
        }
        let ready = needs.values().all(|outcome| outcome == "ok");
        let warnings = self.warnings.read().unwrap_or_else(PoisonError::into_inner);
        let warnings = warnings.iter().filter_map(|(&name, warning)| Some((name, warning()?))).collect();
        Readiness { service, version: env!("CARGO_PKG_VERSION"), ready, needs, warnings }
    }

    async fn outcomes(&self) -> Outcomes {
        // Whoever asks while the checks run waits for the same answer.
        let mut checked = self.checked.lock().await;
        if let Some((asked_at, outcomes)) = &checked.last
            && asked_at.elapsed() < KEPT_FOR
        {
            return outcomes.clone();
        }
        let checks = self.checks.read().unwrap_or_else(PoisonError::into_inner).clone();
        let mut running = std::mem::take(&mut checked.running);
        let answers = join_all(checks.into_iter().map(|(name, check)| {
            let (since, mut answer) = running.remove(name).unwrap_or_else(|| (Instant::now(), tokio::spawn(check())));
            async move {
                let outcome = timeout(CHECK_WITHIN, &mut answer).await;
                (name, since, answer, outcome)
            }
        }));
        let mut outcomes = Outcomes::new();
        for (name, since, answer, outcome) in answers.await {
            let said = match outcome {
                Ok(Ok(Ok(()))) => "ok".to_owned(),
                Ok(Ok(Err(problem))) => problem,
                Ok(Err(_)) => "the check failed".to_owned(),
                Err(_) if since.elapsed() > GIVEN_UP_AFTER => {
                    answer.abort();
                    no_answer()
                }
                Err(_) => {
                    checked.running.insert(name, (since, answer));
                    no_answer()
                }
            };
            outcomes.insert(name, said);
        }
        checked.last = Some((Instant::now(), outcomes.clone()));
        outcomes
    }
}

fn no_answer() -> String {
    format!("no answer within {} s", CHECK_WITHIN.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[tokio::test(start_paused = true)]
    async fn however_often_it_is_asked_the_checks_run_once_a_second() {
        let asked = Arc::new(AtomicU32::new(0));
        let (needs, counted) = (Needs::default(), asked.clone());
        needs.add("luck", move || {
            let count = counted.fetch_add(1, Ordering::Relaxed);
            async move { if count == 0 { Ok(()) } else { Err("none left".to_owned()) } }
        });
        let answers = join_all((0..50).map(|_| needs.readiness("test", false))).await;
        assert!(answers.iter().all(|answer| answer.ready) && asked.load(Ordering::Relaxed) == 1);
        tokio::time::advance(KEPT_FOR).await;
        let answer = needs.readiness("test", false).await;
        assert_eq!((answer.ready, answer.needs["luck"].as_str()), (false, "none left"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_check_goes_on_and_counts_when_it_answers() {
        let started = Arc::new(AtomicU32::new(0));
        let (needs, counted) = (Needs::default(), started.clone());
        needs.add("slow", move || {
            counted.fetch_add(1, Ordering::Relaxed);
            async {
                tokio::time::sleep(CHECK_WITHIN * 2).await;
                Ok(())
            }
        });
        assert_eq!(needs.readiness("test", false).await.needs["slow"], "no answer within 2 s");
        tokio::time::advance(KEPT_FOR).await;
        assert!(needs.readiness("test", false).await.ready);
        assert_eq!(started.load(Ordering::Relaxed), 1);
    }
}
