//! People manage their sessions and their password.

use crate::{
    App,
    domain::{MAX_SESSIONS, OwnSession},
    password::{self, Changer},
    refresh,
    refusal::Refusal,
    store,
};
use axum::{Json, extract::State, http::StatusCode};
use chrono::{DateTime, Utc};
use off_events::UserId;
use off_kit::{
    auth::{Caller, Subject},
    fields::{FieldError, Fields, Raw},
    http::{ApiJson, ApiPath, Problem, RequestSource},
    password::parse,
};
use serde::{Deserialize, Serialize};
use std::fmt;
use utoipa::ToSchema;
use uuid::Uuid;

/// The old and the new password.
#[derive(Deserialize, ToSchema)]
pub(super) struct NewPassword {
    #[serde(default)]
    #[schema(value_type = String, required, format = "password", example = "correct horse battery")]
    old_password: Raw,
    #[serde(default)]
    #[schema(value_type = String, required, min_length = 8, max_length = 200, format = "password",
        example = "wrong donkey battery")]
    new_password: Raw,
}

/// Omits the passwords.
impl fmt::Debug for NewPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewPassword").finish_non_exhaustive()
    }
}

/// A session: a sign-in that has not ended.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SessionInList {
    id: Uuid,
    /// When the person signed in.
    created_at: DateTime<Utc>,
    refreshed_at: DateTime<Utc>,
    /// When it ends without another refresh.
    idle_until: DateTime<Utc>,
    /// When it ends in any case.
    ends_at: DateTime<Utc>,
    /// What the client called itself; may be empty.
    user_agent: String,
    /// The address that signed in; empty if unknown.
    #[schema(example = "192.0.2.7")]
    address: String,
    /// Whether it is the session of this request.
    is_current: bool,
}

/// The sessions of a person, at most 100.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SessionList {
    /// The one that was refreshed last first.
    sessions: Vec<SessionInList>,
}

/// The person who calls. The scope `person` is only in tokens of people.
fn person(caller: &Caller) -> Option<UserId> {
    match caller.0.subject {
        Subject::Person(id) => Some(id),
        Subject::Device(_) | Subject::Client(_) => None,
    }
}

/// Change the own password. All other sessions end.
///
/// A wrong old password counts like a failed sign-in.
#[utoipa::path(put, path = "/api/password", tag = "sessions", security(("token" = ["person"])),
    request_body = NewPassword,
    responses(
        (status = 204, description = "changed"),
        (status = 400, description = "the body is not valid JSON", body = Problem),
        (status = 413, description = "the body is larger than 64 KiB", body = Problem),
        (status = 415, description = "the Content-Type is not JSON", body = Problem),
        (status = 422, description = "the old password is wrong, or the new one is too short or too common",
            body = Problem),
        (status = 429, description = "too many wrong passwords, see Retry-After", body = Problem),
        (status = 503, description = "temporarily unavailable, see Retry-After", body = Problem)))]
pub(super) async fn change_password(
    State(app): State<App>,
    caller: Caller,
    source: RequestSource,
    ApiJson(body): ApiJson<NewPassword>,
) -> Result<StatusCode, Problem> {
    let user_id = person(&caller).ok_or_else(Problem::unauthenticated)?;
    let mut fields = Fields::default();
    let old = fields.text("old_password", &body.old_password);
    let new = fields.text("new_password", &body.new_password).map(parse);
    let new = new.and_then(|new| fields.check("new_password", new));
    let (old, new) = fields.finish(old.zip(new)).map_err(Problem::invalid)?;
    let changer = Changer { user_id, session: caller.0.sid };
    match password::change(&app, changer, old.to_owned(), new, &source).await {
        Ok(()) => Ok(StatusCode::NO_CONTENT),
        // Not a 401: the token is valid.
        Err(Refusal::WrongCredentials) => {
            Err(Problem::invalid(vec![FieldError::new("old_password", &"this is not the password")]))
        }
        Err(refusal) => Err(refusal.into()),
    }
}

/// The own sessions.
#[utoipa::path(get, path = "/api/sessions", tag = "sessions", security(("token" = ["person"])),
    responses(
        (status = 200, description = "the sessions", body = SessionList),
        (status = 503, description = "temporarily unavailable, see Retry-After", body = Problem)))]
pub(super) async fn list_sessions(State(app): State<App>, caller: Caller) -> Result<Json<SessionList>, Problem> {
    let user_id = person(&caller).ok_or_else(Problem::unauthenticated)?;
    let sessions = store::list_sessions(&app.db, user_id, MAX_SESSIONS, app.clock.now()).await;
    let sessions = sessions.map_err(Problem::of_database)?.into_iter().map(|session| {
        let OwnSession { id, created_at, refreshed_at, idle_until, ends_at, user_agent, address } = session;
        let is_current = id == caller.0.sid;
        SessionInList { id, created_at, refreshed_at, idle_until, ends_at, user_agent, address, is_current }
    });
    Ok(Json(SessionList { sessions: sessions.collect() }))
}

/// End one of the own sessions. Its access tokens end with it.
#[utoipa::path(delete, path = "/api/sessions/{id}", tag = "sessions", security(("token" = ["person"])),
    params(("id" = Uuid, Path, description = "the session")),
    responses(
        (status = 204, description = "ended"),
        (status = 404, description = "no such session", body = Problem),
        (status = 503, description = "temporarily unavailable, see Retry-After", body = Problem)))]
pub(super) async fn end_session(
    State(app): State<App>,
    caller: Caller,
    source: RequestSource,
    ApiPath(id): ApiPath<Uuid>,
) -> Result<StatusCode, Problem> {
    let user_id = person(&caller).ok_or_else(Problem::unauthenticated)?;
    let has_ended = refresh::end_own(&app, user_id, id, &source).await.map_err(Problem::of_database)?;
    if has_ended { Ok(StatusCode::NO_CONTENT) } else { Err(Problem::not_found(format!("there is no session {id}"))) }
}
