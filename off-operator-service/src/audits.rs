//! Runs audits, one at a time.

use chrono::{DateTime, Utc};
use metrics::counter;
use off_audit::{Audit, Line};
use off_kit::{Bus, Clock, Kit};
use serde::Serialize;
use sqlx::PgPool;
use std::{
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};
use tokio::sync::mpsc;
use tracing::{error, info, warn};
use utoipa::ToSchema;

/// An audit that runs, and the latest one that ended.
#[derive(Debug, Clone, Default, Serialize, ToSchema)]
pub(crate) struct AuditState {
    /// When the audit that runs now was started; absent if none does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) running_since: Option<DateTime<Utc>>,
    /// Why the latest audit could not check everything; absent if it could.
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<&'static str>,
    /// The latest audit that checked everything.
    #[serde(skip_serializing_if = "Option::is_none")]
    latest: Option<AuditResult>,
}

/// The result of an audit.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct AuditResult {
    /// When it began, by the clock of the database.
    began_at: DateTime<Utc>,
    /// What was read.
    read: String,
    /// The result of each check.
    lines: Vec<Line>,
    /// Whether every order is accounted for.
    passed: bool,
    #[schema(example = "every order is accounted for")]
    verdict: String,
}

impl From<&Audit> for AuditResult {
    fn from(audit: &Audit) -> Self {
        Self {
            began_at: audit.began_at,
            read: audit.read(),
            lines: audit.lines(),
            passed: audit.findings.is_empty(),
            verdict: audit.verdict(),
        }
    }
}

/// The audits of this process. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Audits {
    requests: mpsc::Sender<()>,
    state: Arc<RwLock<AuditState>>,
    clock: Clock,
}

/// Another audit runs.
#[derive(Debug)]
pub(crate) struct AlreadyRunning;

impl Audits {
    /// Spawns the task that runs them. A problem must persist for `patience` to be a finding.
    pub(crate) fn start(kit: &Kit, db: &PgPool, bus: &Bus, patience: Duration) -> Self {
        let (requests, mut requested) = mpsc::channel(1);
        let audits = Self { requests, state: Arc::default(), clock: kit.clock };
        let (tasks, db, bus, running) = (kit.tasks.clone(), db.clone(), bus.clone(), audits.clone());
        kit.tasks.spawn("audits", async move {
            let run = async {
                while let Some(()) = requested.recv().await {
                    let audit = off_audit::audit(&db, &bus, patience, None).await;
                    running.end(audit);
                }
            };
            tokio::select! {
                () = run => {}
                () = tasks.stopping() => {}
            }
            Ok(())
        });
        audits
    }

    /// Starts an audit.
    pub(crate) fn request(&self) -> Result<AuditState, AlreadyRunning> {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        if state.running_since.is_some() {
            return Err(AlreadyRunning);
        }
        self.requests.try_send(()).map_err(|_| AlreadyRunning)?;
        state.running_since = Some(self.clock.now());
        Ok(state.clone())
    }

    pub(crate) fn state(&self) -> AuditState {
        self.state.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn end(&self, audit: anyhow::Result<Audit>) {
        let result = match &audit {
            Ok(audit) if audit.findings.is_empty() => "passed",
            Ok(_) => "findings",
            Err(_) => "incomplete",
        };
        counter!("off_audits_total", "result" => result).increment(1);
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        state.running_since = None;
        state.failure = None;
        match audit {
            Ok(audit) if audit.findings.is_empty() => {
                info!("the audit has no findings");
                state.latest = Some(AuditResult::from(&audit));
            }
            Ok(audit) => {
                warn!("the audit has {}", audit.verdict());
                state.latest = Some(AuditResult::from(&audit));
            }
            Err(error) => {
                error!("the audit could not check everything: {error:#}");
                state.failure = Some("the audit could not check everything: the log of the operator service says why");
            }
        }
    }
}
