//! Operators see, rotate and retire the keys that sign tokens.

use crate::{
    App,
    codes::Code,
    domain::{PUBLISHED_BEFORE, SigningPeriod, SigningState},
    keys::RotationError,
};
use axum::{
    Json,
    extract::State,
    http::{HeaderName, StatusCode, header},
};
use chrono::{DateTime, TimeDelta, Utc};
use off_kit::{
    auth::Caller,
    fields::FieldError,
    http::{ApiJson, ApiPath, Problem, RequestSource},
};
use serde::{Deserialize, Serialize};
use tracing::error;
use utoipa::ToSchema;

/// The longest delay of a rotation: a week.
const MAX_DELAY: i64 = 7 * 24 * 3600;

/// A published key.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SigningKeyInList {
    /// Its id, which is the RFC 7638 thumbprint of the public half.
    kid: String,
    state: KeyState,
    created_at: DateTime<Utc>,
    signs_from: DateTime<Utc>,
    signs_until: DateTime<Utc>,
    /// When it is no longer published.
    retires_at: DateTime<Utc>,
}

/// What a key is for now.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum KeyState {
    /// Verifiers learn it.
    Published,
    /// May sign new tokens; of several, the one that began last does.
    Signing,
    /// Verifies the tokens that it signed.
    Kept,
}

impl SigningKeyInList {
    fn new(kid: String, period: &SigningPeriod, now: DateTime<Utc>) -> Self {
        let SigningPeriod { created_at, signs_from, signs_until, retires_at } = *period;
        let state = match period.state(now) {
            SigningState::Published => KeyState::Published,
            SigningState::Signing => KeyState::Signing,
            SigningState::Kept | SigningState::Retired => KeyState::Kept,
        };
        Self { kid, state, created_at, signs_from, signs_until, retires_at }
    }
}

/// The published keys.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SigningKeyList {
    /// The newest first.
    keys: Vec<SigningKeyInList>,
}

/// A rotation.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct Rotation {
    /// Seconds until the new key signs, at most a week. Within an hour, verifiers may not know it yet and refuse its
    /// first tokens.
    #[serde(default = "default_delay")]
    #[schema(minimum = 0, maximum = 604_800, default = 3600, example = 3600)]
    signs_after_seconds: i64,
}

fn default_delay() -> i64 {
    PUBLISHED_BEFORE.num_seconds()
}

impl From<RotationError> for Problem {
    fn from(error: RotationError) -> Self {
        match error {
            RotationError::TooMany => {
                Self::new(Code::TooManyKeys, "there are too many published keys: retire some first")
            }
            RotationError::Database(error) => Self::of_database(error),
            RotationError::Failed(error) => {
                error!("cannot change the signing keys: {error:#}");
                Self::internal()
            }
        }
    }
}

/// The keys that sign and verify tokens.
#[utoipa::path(get, path = "/api/keys", tag = "signing keys", security(("token" = ["operate"])),
    responses(
        (status = 200, description = "the published keys", body = SigningKeyList),
        (status = 503, description = "temporarily unavailable, see Retry-After", body = Problem)))]
pub(super) async fn list_signing_keys(State(app): State<App>) -> Result<Json<SigningKeyList>, Problem> {
    let keys = app.keys.list().await.map_err(Problem::of_database)?;
    let now = app.clock.now();
    let keys = keys.into_iter().map(|(kid, period)| SigningKeyInList::new(kid, &period, now)).collect();
    Ok(Json(SigningKeyList { keys }))
}

/// Make a key that signs after a delay. It is published at once. The keys before it verify their tokens as before.
#[utoipa::path(post, path = "/api/keys", tag = "signing keys", security(("token" = ["operate"])),
    request_body = Option<Rotation>,
    responses(
        (status = 201, description = "published", body = SigningKeyInList,
            headers(("Location" = String, description = "the key"))),
        (status = 400, description = "the body is not valid JSON", body = Problem),
        (status = 409, description = "there are too many published keys", body = Problem),
        (status = 413, description = "the body is larger than 64 KiB", body = Problem),
        (status = 415, description = "the Content-Type is not JSON", body = Problem),
        (status = 422, description = "invalid fields, each with its error", body = Problem),
        (status = 503, description = "temporarily unavailable, see Retry-After", body = Problem)))]
pub(super) async fn rotate_signing_keys(
    State(app): State<App>,
    Caller(caller): Caller,
    source: RequestSource,
    rotation: Option<ApiJson<Rotation>>,
) -> Result<(StatusCode, [(HeaderName, String); 1], Json<SigningKeyInList>), Problem> {
    let seconds = rotation.map_or_else(default_delay, |ApiJson(rotation)| rotation.signs_after_seconds);
    if !(0..=MAX_DELAY).contains(&seconds) {
        let error = FieldError::new("signs_after_seconds", &"expected a number from 0 to 604800");
        return Err(Problem::invalid(vec![error]));
    }
    let by = caller.subject.to_string();
    let (kid, period) = app.keys.rotate(TimeDelta::seconds(seconds), &by, &source).await?;
    let location = format!("/api/keys/{kid}");
    let key = SigningKeyInList::new(kid, &period, app.clock.now());
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], Json(key)))
}

/// Retire a key now: its tokens are refused as soon as verifiers know, within minutes. If no other key signs, the one
/// that waits does at once if it has been published for ten minutes, otherwise a new one. For a key that somebody else
/// may have.
#[utoipa::path(delete, path = "/api/keys/{kid}", tag = "signing keys", security(("token" = ["operate"])),
    params(("kid" = String, Path, description = "the key")),
    responses(
        (status = 204, description = "retired"),
        (status = 404, description = "no such key", body = Problem),
        (status = 503, description = "temporarily unavailable, see Retry-After", body = Problem)))]
pub(super) async fn retire_signing_key(
    State(app): State<App>,
    Caller(caller): Caller,
    source: RequestSource,
    ApiPath(kid): ApiPath<String>,
) -> Result<StatusCode, Problem> {
    let not_found = || Problem::not_found("there is no such key");
    if kid.contains('\0') {
        return Err(not_found());
    }
    let is_retired = app.keys.retire(&kid, &caller.subject.to_string(), &source).await?;
    if is_retired { Ok(StatusCode::NO_CONTENT) } else { Err(not_found()) }
}
