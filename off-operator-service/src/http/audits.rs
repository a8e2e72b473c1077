//! Audits.

use crate::{App, audits::AuditState, codes::Code};
use axum::{Json, extract::State, http::StatusCode};
use off_kit::http::Problem;

/// Start an audit. It runs for as long as `off audit` does, in the background; one runs at a time.
#[utoipa::path(post, path = "/api/operator/audits", tag = "audits", security(("token" = ["operate"])),
    responses(
        (status = 202, description = "started", body = AuditState),
        (status = 409, description = "an audit runs already", body = Problem)))]
pub(super) async fn start_audit(State(app): State<App>) -> Result<(StatusCode, Json<AuditState>), Problem> {
    match app.audits.request() {
        Ok(state) => Ok((StatusCode::ACCEPTED, Json(state))),
        Err(_) => Err(Problem::new(Code::AlreadyRunning, "an audit runs already; its result follows")),
    }
}

/// The audit that runs, and the latest result since the service started.
#[utoipa::path(get, path = "/api/operator/audits/latest", tag = "audits", security(("token" = ["operate"])),
    responses((status = 200, description = "the state", body = AuditState)))]
pub(super) async fn show_latest_audit(State(app): State<App>) -> Json<AuditState> {
    Json(app.audits.state())
}
