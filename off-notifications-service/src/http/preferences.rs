//! Which letters a person wants by e-mail.

use super::letters::{Owner, find_reader};
use crate::{
    App,
    domain::{NewPreferences, Preferences},
    store,
};
use axum::{Json, extract::State};
use off_kit::{
    auth::RowAccess,
    http::{ApiJson, ApiQuery, Problem},
};

/// Get which letters a person wants by e-mail.
#[utoipa::path(get, path = "/api/letters/preferences", tag = "letters", params(Owner),
    security(("token" = ["person"]), ("token" = ["simulate"])),
    responses(
        (status = 200, description = "the preferences", body = Preferences),
        (status = 400, description = "an invalid query parameter", body = Problem),
        (status = 404, description = "no such person", body = Problem),
        (status = 503, description = "temporarily unavailable, see Retry-After", body = Problem)))]
pub(super) async fn find_preferences(
    State(app): State<App>,
    access: RowAccess,
    ApiQuery(query): ApiQuery<Owner>,
) -> Result<Json<Preferences>, Problem> {
    let (_, preferences) = find_reader(&app, access, query.user_id).await?;
    Ok(Json(preferences))
}

/// Set which letters a person wants by e-mail. All letters stay in their list.
#[utoipa::path(put, path = "/api/letters/preferences", tag = "letters", params(Owner), request_body = NewPreferences,
    security(("token" = ["person"]), ("token" = ["simulate"])),
    responses(
        (status = 200, description = "the preferences", body = Preferences),
        (status = 400, description = "the body is not valid JSON, or an invalid query parameter", body = Problem),
        (status = 404, description = "no such person", body = Problem),
        (status = 413, description = "the body is larger than 64 KiB", body = Problem),
        (status = 415, description = "the Content-Type is not JSON", body = Problem),
        (status = 422, description = "invalid fields, each with its error", body = Problem),
        (status = 503, description = "temporarily unavailable, see Retry-After", body = Problem)))]
pub(super) async fn update_preferences(
    State(app): State<App>,
    access: RowAccess,
    ApiQuery(query): ApiQuery<Owner>,
    ApiJson(new): ApiJson<NewPreferences>,
) -> Result<Json<Preferences>, Problem> {
    let preferences = new.validate().map_err(Problem::invalid)?;
    let (user, _) = find_reader(&app, access, query.user_id).await?;
    store::update_preferences(&app.db, user, &preferences).await.map_err(Problem::of_database)?;
    Ok(Json(preferences))
}
