//! People.

use super::{registrations::email_taken, responses::User};
use crate::{
    App,
    domain::NewProfile,
    profile::{self, ChangeError},
    store,
};
use axum::{Json, extract::State};
use off_events::UserId;
use off_kit::{
    auth::RowAccess,
    http::{ApiJson, ApiPath, Problem, RequestSource},
};

fn no_such_person(id: i64) -> Problem {
    Problem::not_found(format!("there is no person {id}"))
}

/// A person and the ids of their devices.
#[utoipa::path(get, path = "/api/users/{id}", tag = "users",
    security(("token" = ["person"]), ("token" = ["simulate"]), ("token" = ["operate"])),
    params(("id" = UserId, Path, description = "the person")),
    responses(
        (status = 200, description = "the person", body = User),
        (status = 404, description = "no such person", body = Problem),
        (status = 503, description = "temporarily unavailable, see Retry-After", body = Problem)))]
pub(super) async fn find_user(
    State(app): State<App>,
    access: RowAccess,
    ApiPath(id): ApiPath<i64>,
) -> Result<Json<User>, Problem> {
    let user = store::find_user(&app.db, UserId(id), access).await.map_err(Problem::of_database)?;
    user.map(|user| Json(user.into())).ok_or_else(|| no_such_person(id))
}

/// Replace the name, the e-mail address and the phone number of a person.
///
/// The person signs in with the new address from then on.
#[utoipa::path(put, path = "/api/users/{id}", tag = "users", request_body = NewProfile,
    security(("token" = ["person"])),
    params(("id" = UserId, Path, description = "the person")),
    responses(
        (status = 200, description = "the person", body = User),
        (status = 400, description = "the body is not valid JSON", body = Problem),
        (status = 404, description = "no such person", body = Problem),
        (status = 409, description = "the e-mail address is registered already", body = Problem),
        (status = 413, description = "the body is larger than 64 KiB", body = Problem),
        (status = 415, description = "the Content-Type is not JSON", body = Problem),
        (status = 422, description = "invalid fields, each with its error", body = Problem),
        (status = 503, description = "temporarily unavailable, see Retry-After", body = Problem)))]
pub(super) async fn change_user(
    State(app): State<App>,
    access: RowAccess,
    source: RequestSource,
    ApiPath(id): ApiPath<i64>,
    ApiJson(new): ApiJson<NewProfile>,
) -> Result<Json<User>, Problem> {
    let profile = new.check().map_err(Problem::invalid)?;
    let changed = profile::change(&app, UserId(id), access, &profile, &source).await;
    changed.map(|user| Json(user.into())).map_err(|error| match error {
        ChangeError::NoPerson => no_such_person(id),
        ChangeError::EmailTaken => email_taken(),
        ChangeError::Database(error) => Problem::of_database(error),
    })
}
