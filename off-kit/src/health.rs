//! Whether a service has what it needs.

use futures::future::{BoxFuture, join_all};
use serde::Serialize;
use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};
use tokio::time::timeout;
use utoipa::ToSchema;

/// Longer than this a check is as good as failed.
const CHECK_WITHIN: Duration = Duration::from_secs(2);

type Check = Arc<dyn Fn() -> BoxFuture<'static, Result<(), String>> + Send + Sync>;

/// What a service needs, by name. Clones speak of the same needs.
#[derive(Clone, Default)]
pub struct Needs(Arc<RwLock<BTreeMap<&'static str, Check>>>);

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
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(name, check);
    }

    /// Asks all checks at once.
    pub async fn readiness(&self, service: &'static str, stopping: bool) -> Readiness {
        let checks = self.0.read().unwrap_or_else(PoisonError::into_inner).clone();
        let mut needs: BTreeMap<_, _> = join_all(checks.into_iter().map(|(name, check)| async move {
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
        if stopping {
            needs.insert("running", "the service is shutting down".to_owned());
        }
        let ready = needs.values().all(|outcome| outcome == "ok");
        Readiness { service, version: env!("CARGO_PKG_VERSION"), ready, needs }
    }
}
