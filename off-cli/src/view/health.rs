//! The health of the services, the consumers and the data.

use crate::{
    home::ServiceAddresses,
    report::Status,
    stalls::{self, CheckResult},
};
use futures::future::join_all;
use off_kit::Bus;
use sqlx::PgPool;

/// The result of a health check.
#[derive(Debug, Clone, Default)]
pub(crate) struct Health {
    /// Each service, and whether it is ready.
    pub(crate) services: Vec<(String, bool)>,
    /// The backlog of the consumers.
    pub(crate) consumers: String,
    /// How many dead letters there are, with advice; `None` if there are none.
    pub(crate) dead_letters: Option<String>,
    /// A notice of `off up`, or else the first failed check with advice.
    pub(crate) notice: Option<String>,
}

impl Health {
    /// Checks readiness and stalls. A `notice` takes precedence over stalls.
    pub(crate) async fn check(
        services: &[ServiceAddresses],
        db: &PgPool,
        bus: &Bus,
        notice: impl FnOnce() -> Option<String>,
    ) -> Self {
        let ready = join_all(services.iter().map(ServiceAddresses::check_readiness));
        let (ready, results) = tokio::join!(ready, stalls::check(db, bus));
        let services = services.iter().zip(ready).map(|(service, ready)| (service.name.clone(), ready.is_ok()));
        let detail = |name: &str| {
            let result = results.iter().find(|result| result.name == name);
            result.map(|CheckResult { detail, .. }| detail.clone())
        };
        let failed = results.iter().find(|result| result.status == Status::Failed);
        Self {
            services: services.collect(),
            consumers: detail(stalls::CONSUMERS).unwrap_or_else(|| "unknown".to_owned()),
            dead_letters: detail(stalls::DEAD),
            notice: notice().or_else(|| failed.map(|result| format!("{}: {}", result.name, result.detail))),
        }
    }
}
