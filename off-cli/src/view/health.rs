//! How the parts are, beside the numbers.

use crate::{
    home::RunningService,
    motion::{self, Finding},
};
use futures::future::join_all;
use off_kit::Bus;
use sqlx::PgPool;

/// What a look found.
#[derive(Debug, Clone, Default)]
pub(crate) struct Health {
    /// Each service, and whether it is ready.
    pub(crate) services: Vec<(String, bool)>,
    /// What waits for the consumers.
    pub(crate) consumers: String,
    /// Messages that nobody could handle.
    pub(crate) dead_letters: Option<String>,
    /// What a person should hear of: a notice of `off up`, or what is stuck and what to do about it.
    pub(crate) notice: Option<String>,
}

impl Health {
    /// Asks the services and looks whether everything moves on. `notice` matters more than what is found.
    pub(crate) async fn look(
        services: &[RunningService],
        db: &PgPool,
        bus: &Bus,
        notice: impl FnOnce() -> Option<String>,
    ) -> Self {
        let asked = join_all(services.iter().map(RunningService::ask_whether_ready));
        let (ready, findings) = tokio::join!(asked, motion::look(db, bus));
        let services = services.iter().zip(ready).map(|(service, ready)| (service.name.clone(), ready.is_ok()));
        let detail = |what: &str| {
            let finding = findings.iter().find(|finding| finding.what == what);
            finding.map(|Finding { detail, .. }| detail.clone())
        };
        let stuck = findings.iter().find(|finding| finding.state == motion::State::Stuck);
        Self {
            services: services.collect(),
            consumers: detail(motion::CONSUMERS).unwrap_or_else(|| "unknown".to_owned()),
            dead_letters: detail(motion::DEAD),
            notice: notice().or_else(|| stuck.map(|stuck| format!("{}: {}", stuck.what, stuck.detail))),
        }
    }
}
