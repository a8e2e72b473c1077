//! Replays of all dead letters that match a filter.

use super::of_broker;
use crate::{App, codes::Code, replays::ReplayRun};
use axum::{Json, extract::State, http::StatusCode};
use chrono::{DateTime, Utc};
use off_kit::{
    bus::dead_letters::Filter,
    fields::FieldError,
    http::{ApiJson, Problem},
};
use serde::Deserialize;
use utoipa::ToSchema;

/// Messages per second, unless the request says another number.
const PER_SECOND: u32 = 50;

/// The highest number of messages per second.
const MAX_PER_SECOND: u32 = 1_000;

/// Which dead letters to replay, and how.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct Replay {
    /// Only those of this consumer.
    #[schema(example = "billing-pending")]
    consumer: Option<String>,
    /// Only those whose reason contains this text, in upper or lower case.
    reason: Option<String>,
    /// Only messages that became dead letters at this time or later.
    since: Option<DateTime<Utc>>,
    /// Only messages that became dead letters before this time.
    until: Option<DateTime<Utc>>,
    /// Maximum number of messages that are published in a second, 1 to 1,000.
    #[serde(default = "default_rate")]
    #[schema(minimum = 1, maximum = 1000, default = 50)]
    per_second: u32,
    /// Whether to count what matches, and to publish nothing.
    #[serde(default)]
    dry_run: bool,
}

fn default_rate() -> u32 {
    PER_SECOND
}

/// Publish all dead letters that match on their original subjects again, in the background; one run at a time. With
/// `dry_run`, count them now.
#[utoipa::path(post, path = "/api/operator/replays", tag = "dead letters", security(("token" = ["operate"])),
    request_body = Replay,
    responses(
        (status = 200, description = "the result of a dry run", body = ReplayRun),
        (status = 202, description = "started", body = ReplayRun),
        (status = 400, description = "the body is not valid JSON", body = Problem),
        (status = 409, description = "a replay runs already", body = Problem),
        (status = 413, description = "the body is larger than 64 KiB", body = Problem),
        (status = 415, description = "the Content-Type is not JSON", body = Problem),
        (status = 422, description = "invalid fields, each with its error", body = Problem),
        (status = 503, description = "temporarily unavailable, see Retry-After", body = Problem)))]
pub(super) async fn start_replay(
    State(app): State<App>,
    ApiJson(replay): ApiJson<Replay>,
) -> Result<(StatusCode, Json<ReplayRun>), Problem> {
    let Replay { consumer, reason, since, until, per_second, dry_run } = replay;
    if !(1..=MAX_PER_SECOND).contains(&per_second) {
        return Err(Problem::invalid(vec![FieldError::new("per_second", &"expected a number from 1 to 1000")]));
    }
    let filter = Filter { consumer, reason, since, until };
    if dry_run {
        let run = app.replays.dry_run(&app.bus, &filter).await.map_err(|error| of_broker(&app, &error))?;
        return Ok((StatusCode::OK, Json(run)));
    }
    match app.replays.request(filter, per_second) {
        Ok(run) => Ok((StatusCode::ACCEPTED, Json(run))),
        Err(_) => Err(Problem::new(Code::AlreadyRunning, "a replay runs already; wait until it has ended")),
    }
}

/// The replay that runs, or the latest one since the service started.
#[utoipa::path(get, path = "/api/operator/replays/latest", tag = "dead letters", security(("token" = ["operate"])),
    responses(
        (status = 200, description = "the replay", body = ReplayRun),
        (status = 404, description = "there was none", body = Problem)))]
pub(super) async fn show_latest_replay(State(app): State<App>) -> Result<Json<ReplayRun>, Problem> {
    app.replays.latest().map(Json).ok_or_else(|| Problem::not_found("there was no replay since the service started"))
}
