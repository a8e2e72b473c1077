//! HTTP routes and handlers.

mod audits;
mod dead_letters;
mod faults;
mod imports;
mod replays;
mod system;

use crate::App;
use off_kit::http::Problem;
use tracing::warn;
use utoipa_axum::{router::OpenApiRouter, routes};

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(dead_letters::list_dead_letters))
        .routes(routes!(dead_letters::find_dead_letter))
        .routes(routes!(dead_letters::replay_dead_letter))
        .routes(routes!(dead_letters::drop_dead_letter))
        .routes(routes!(replays::start_replay))
        .routes(routes!(replays::show_latest_replay))
        .routes(routes!(audits::start_audit))
        .routes(routes!(audits::show_latest_audit))
        .routes(routes!(system::list_streams))
        .routes(routes!(system::list_overdue_orders))
        .routes(routes!(faults::list_faults))
        .routes(routes!(faults::set_fault, faults::clear_fault))
        .routes(routes!(imports::list_imports))
        .routes(routes!(imports::list_rejects))
}

/// 503. The cause is only in the log.
fn of_broker(app: &App, error: &anyhow::Error) -> Problem {
    if let Some(suppressed) = app.log_limit.admit() {
        warn!(suppressed, "the broker did not do what an operator asked for: {error:#}");
    }
    Problem::unavailable("the broker did not do it; try again. The log of the operator service says why")
}
