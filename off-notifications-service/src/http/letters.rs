//! The letters of a person.

use super::responses::{LetterPage, LetterWithHtml};
use crate::{
    App,
    domain::{LetterKind, Preferences},
    store,
};
use axum::{Json, extract::State, http::StatusCode};
use off_events::UserId;
use off_kit::{
    auth::{RowAccess, no_such_person},
    http::{ApiPath, ApiQuery, PageSize, Problem},
};
use serde::Deserialize;
use tracing::error;
use utoipa::IntoParams;
use uuid::Uuid;

/// Letters per page.
const PAGE_SIZE: PageSize = PageSize { default: 50, max: 100 };

/// Whose letters.
#[derive(Debug, Clone, Copy, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Owner {
    /// The person. People may leave it out: it is themselves.
    pub(super) user_id: Option<i64>,
}

/// Which letters to list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct ListLetters {
    /// The person. People may leave it out: it is themselves.
    user_id: Option<i64>,
    /// Only letters of this kind.
    kind: Option<LetterKind>,
    /// Only letters about this order. They are few, so there is one page, whatever the other parameters say.
    #[param(value_type = Option<String>)]
    order_id: Option<Uuid>,
    /// The `next_cursor` of the previous page.
    cursor: Option<i64>,
    /// Letters per page, 1 to 100; default 50.
    #[param(minimum = 1, maximum = 100)]
    limit: Option<u32>,
}

/// List the letters of a person, newest first, in pages.
#[utoipa::path(get, path = "/api/letters", tag = "letters", params(ListLetters),
    security(("token" = ["person"]), ("token" = ["simulate"])),
    responses(
        (status = 200, description = "a page of letters", body = LetterPage),
        (status = 400, description = "an invalid query parameter", body = Problem),
        (status = 404, description = "no such person", body = Problem),
        (status = 503, description = "temporarily unavailable, see Retry-After", body = Problem)))]
pub(super) async fn list_letters(
    State(app): State<App>,
    access: RowAccess,
    ApiQuery(query): ApiQuery<ListLetters>,
) -> Result<Json<LetterPage>, Problem> {
    let limit = PAGE_SIZE.limit(query.limit)?;
    let (user, _) = find_reader(&app, access, query.user_id).await?;
    let unread = store::count_unread(&app.db, user).await.map_err(Problem::of_database)?;
    let letters = match query.order_id {
        Some(order) => store::list_letters_of_order(&app.db, user, order).await,
        // One more than requested, to find out whether there is another page.
        None => store::list_letters(&app.db, user, query.kind, query.cursor, i64::from(limit) + 1).await,
    };
    let letters = letters.map_err(Problem::of_database)?;
    LetterPage::new(letters, limit, unread).map(Json).map_err(|error| cannot_render(&error))
}

/// Get a letter, also as HTML.
#[utoipa::path(get, path = "/api/letters/{id}", tag = "letters",
    params(("id" = i64, Path, description = "the id of the letter"), Owner),
    security(("token" = ["person"]), ("token" = ["simulate"])),
    responses(
        (status = 200, description = "the letter", body = LetterWithHtml),
        (status = 400, description = "an invalid query parameter", body = Problem),
        (status = 404, description = "no such letter", body = Problem),
        (status = 503, description = "temporarily unavailable, see Retry-After", body = Problem)))]
pub(super) async fn find_letter(
    State(app): State<App>,
    access: RowAccess,
    ApiPath(id): ApiPath<i64>,
    ApiQuery(query): ApiQuery<Owner>,
) -> Result<Json<LetterWithHtml>, Problem> {
    let (user, _) = find_reader(&app, access, query.user_id).await?;
    let letter = store::find_letter(&app.db, user, id).await.map_err(Problem::of_database)?;
    let letter = letter.ok_or_else(|| no_such_letter(id))?;
    LetterWithHtml::new(&letter).map(Json).map_err(|error| cannot_render(&error))
}

/// Mark a letter as read, and all that are older.
#[utoipa::path(post, path = "/api/letters/{id}/read", tag = "letters",
    params(("id" = i64, Path, description = "the id of the letter"), Owner),
    security(("token" = ["person"]), ("token" = ["simulate"])),
    responses(
        (status = 204, description = "they are read"),
        (status = 400, description = "an invalid query parameter", body = Problem),
        (status = 404, description = "no such letter", body = Problem),
        (status = 503, description = "temporarily unavailable, see Retry-After", body = Problem)))]
pub(super) async fn mark_read(
    State(app): State<App>,
    access: RowAccess,
    ApiPath(id): ApiPath<i64>,
    ApiQuery(query): ApiQuery<Owner>,
) -> Result<StatusCode, Problem> {
    let (user, _) = find_reader(&app, access, query.user_id).await?;
    let letter = store::find_letter(&app.db, user, id).await.map_err(Problem::of_database)?;
    letter.ok_or_else(|| no_such_letter(id))?;
    store::mark_read(&app.db, user, id).await.map_err(Problem::of_database)?;
    Ok(StatusCode::NO_CONTENT)
}

/// The person whose letters a request is about, and what they want.
pub(super) async fn find_reader(
    app: &App,
    access: RowAccess,
    asked: Option<i64>,
) -> Result<(UserId, Preferences), Problem> {
    let (user, simulated) = access.person(asked)?;
    let preferences = store::find_preferences(&app.db, user, simulated).await.map_err(Problem::of_database)?;
    Ok((user, preferences.ok_or_else(|| no_such_person(user.0))?))
}

fn no_such_letter(id: i64) -> Problem {
    Problem::not_found(format!("there is no letter {id}"))
}

fn cannot_render(error: &askama::Error) -> Problem {
    error!("a letter cannot be rendered: {error}");
    Problem::internal()
}
