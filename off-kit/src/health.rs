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
    time::{Instant, timeout},
};
use utoipa::ToSchema;

/// Longer than this a check is as good as failed.
const CHECK_WITHIN: Duration = Duration::from_secs(2);

type Check = Arc<dyn Fn() -> BoxFuture<'static, Result<(), String>> + Send + Sync>;

/// How long an answer is good for: however often it is asked for, the checks run once in this time.
const KEPT_FOR: Duration = Duration::from_secs(1);

/// What a service needs, by name. Clones speak of the same needs.
#[derive(Clone, Default)]
pub struct Needs {
    checks: Arc<RwLock<BTreeMap<&'static str, Check>>>,
    outcomes: Arc<Mutex<Option<(Instant, Outcomes)>>>,
}

/// What came of each check.
type Outcomes = BTreeMap<&'static str, String>;

impl fmt::Debug for Needs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Needs").finish_non_exhaustive()
    }
}

/// What `/readyz` and `/api/health` answer.
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

    /// Whether all checks pass. They run at once, and not again for a second.
    pub async fn readiness(&self, service: &'static str, stopping: bool) -> Readiness {
        let mut needs = self.outcomes().await;
        if stopping {
            needs.insert("running", "the service is shutting down".to_owned());
        }
        let ready = needs.values().all(|outcome| outcome == "ok");
        Readiness { service, version: env!("CARGO_PKG_VERSION"), ready, needs }
    }

    async fn outcomes(&self) -> Outcomes {
        // Whoever asks while the checks run waits for the same answer.
        let mut kept = self.outcomes.lock().await;
        if let Some((asked_at, outcomes)) = &*kept
            && asked_at.elapsed() < KEPT_FOR
        {
            return outcomes.clone();
        }
        let checks = self.checks.read().unwrap_or_else(PoisonError::into_inner).clone();
        let outcomes: Outcomes = join_all(checks.into_iter().map(|(name, check)| async move {
            let outcome = match timeout(CHECK_WITHIN, check()).await {
                Ok(Ok(())) => "ok".to_owned(),
                Ok(Err(problem)) => problem,
                Err(_) => format!("no answer within {} s", CHECK_WITHIN.as_secs()),
            };
            (name, outcome)
        }))
        .await
        .into_iter()
        .collect();
        *kept = Some((Instant::now(), outcomes.clone()));
        outcomes
    }
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
}
