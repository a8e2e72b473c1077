//! Dead letters.

use super::of_broker;
use crate::{App, codes::Code, store};
use axum::{
    Json,
    extract::State,
    http::{HeaderName, HeaderValue, header},
};
use chrono::{DateTime, Utc};
use metrics::counter;
use off_kit::{
    bus::{
        Content,
        dead_letters::{self, DeadLetter, DeadLetterError, Filter},
    },
    fields::FieldError,
    http::{ApiJson, ApiPath, ApiQuery, PageSize, Problem},
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// Dead letters per page.
const PAGE_SIZE: PageSize = PageSize { default: 50, max: 100 };

/// Maximum length of the reason for a drop, in characters.
const MAX_WHY: usize = 500;

/// A body may be personal.
const NO_STORE: (HeaderName, HeaderValue) = (header::CACHE_CONTROL, HeaderValue::from_static("no-store"));

/// Which dead letters to list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct ListDeadLetters {
    /// Only those of this consumer.
    consumer: Option<String>,
    /// Only those whose reason contains this text, in upper or lower case.
    reason: Option<String>,
    /// Only messages that became dead letters at this time or later.
    since: Option<DateTime<Utc>>,
    /// Only messages that became dead letters before this time.
    until: Option<DateTime<Utc>>,
    /// The `next_cursor` of the previous page.
    cursor: Option<u64>,
    /// Dead letters per page, 1 to 100; default 50.
    #[param(minimum = 1, maximum = 100)]
    limit: Option<u32>,
}

/// A dead letter without its headers and body.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DeadLetterInList {
    number: u64,
    /// The consumer that could not handle it.
    #[schema(example = "billing-pending")]
    consumer: String,
    /// The subject that it was published on.
    subject: String,
    reason: String,
    /// When it became a dead letter.
    #[schema(example = "2026-01-31T12:00:00Z")]
    time: String,
}

/// A page of dead letters, oldest first.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DeadLetterPage {
    dead_letters: Vec<DeadLetterInList>,
    /// The cursor of the next page; absent on the last one. A page may have fewer than `limit` and be followed by another.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<u64>,
}

/// A message that could not be handled.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct WholeDeadLetter {
    number: u64,
    /// The consumer that could not handle it.
    consumer: String,
    /// The subject that it was published on.
    subject: String,
    reason: String,
    /// Its sequence number in the stream that it came from.
    sequence: String,
    /// How often it was delivered.
    deliveries: String,
    /// When it became a dead letter.
    time: String,
    /// The headers of the message.
    headers: Vec<Header>,
    /// The body of the message. Bytes that are not UTF-8 are replaced.
    body: String,
    /// Whether the whole body is UTF-8, so that `body` is exactly the body.
    is_text: bool,
    /// Which parts were truncated, because they were too large: `headers`, `body`.
    cut: Vec<String>,
}

/// A header of a message.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Header {
    name: String,
    value: String,
}

impl From<DeadLetter> for WholeDeadLetter {
    fn from(letter: DeadLetter) -> Self {
        let DeadLetter { number, consumer, subject, reason, sequence, deliveries, time, headers, body, cut } = letter;
        let headers = headers.into_iter().map(|(name, value)| Header { name, value }).collect();
        let is_text = std::str::from_utf8(&body).is_ok();
        let body = String::from_utf8_lossy(&body).into_owned();
        Self { number, consumer, subject, reason, sequence, deliveries, time, headers, body, is_text, cut }
    }
}

/// How to replay a dead letter.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub(super) struct ReplayOne {
    /// A repaired body to publish in place of the original one. An order in it must be one that was placed.
    body: Option<String>,
}

/// Why to drop a dead letter.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct Drop {
    /// 1 to 500 characters. Published on `dead.dropped`.
    #[schema(min_length = 1, max_length = 500)]
    why: String,
}

/// List dead letters, oldest first, in pages.
#[utoipa::path(get, path = "/api/operator/dead-letters", tag = "dead letters", params(ListDeadLetters),
    security(("token" = ["operate"])),
    responses(
        (status = 200, description = "a page of dead letters", body = DeadLetterPage),
        (status = 400, description = "an invalid query parameter", body = Problem),
        (status = 503, description = "temporarily unavailable, see Retry-After", body = Problem)))]
pub(super) async fn list_dead_letters(
    State(app): State<App>,
    ApiQuery(list): ApiQuery<ListDeadLetters>,
) -> Result<Json<DeadLetterPage>, Problem> {
    let ListDeadLetters { consumer, reason, since, until, cursor, limit } = list;
    let limit = PAGE_SIZE.limit(limit)?;
    let filter = Filter { consumer, reason, since, until };
    let page = dead_letters::page(&app.bus, &filter, cursor.unwrap_or(1), limit as usize, Content::HeadersOnly);
    let page = page.await.map_err(|error| of_broker(&app, &error))?;
    let dead_letters = page.letters.into_iter().map(in_list);
    Ok(Json(DeadLetterPage { dead_letters: dead_letters.collect(), next_cursor: page.next }))
}

/// A dead letter with its headers and body.
#[utoipa::path(get, path = "/api/operator/dead-letters/{number}", tag = "dead letters",
    security(("token" = ["operate"])), params(("number" = u64, Path, description = "its number in the list")),
    responses(
        (status = 200, description = "the dead letter", body = WholeDeadLetter),
        (status = 404, description = "no such dead letter", body = Problem),
        (status = 503, description = "temporarily unavailable, see Retry-After", body = Problem)))]
pub(super) async fn find_dead_letter(
    State(app): State<App>,
    ApiPath(number): ApiPath<u64>,
) -> Result<([(HeaderName, HeaderValue); 1], Json<WholeDeadLetter>), Problem> {
    let letter = dead_letters::find(&app.bus, number).await.map_err(|error| problem(&app, error))?;
    Ok(([NO_STORE], Json(letter.into())))
}

/// Publish a dead letter on its original subject again, and remove it from the list. All consumers of the subject receive
/// it; effects do not repeat.
#[utoipa::path(post, path = "/api/operator/dead-letters/{number}/replay", tag = "dead letters",
    security(("token" = ["operate"])), params(("number" = u64, Path, description = "its number in the list")),
    request_body = Option<ReplayOne>,
    responses(
        (status = 200, description = "published", body = DeadLetterInList),
        (status = 400, description = "the body is not valid JSON", body = Problem),
        (status = 404, description = "no such dead letter", body = Problem),
        (status = 409, description = "its subject or a part of its body is missing", body = Problem),
        (status = 413, description = "the body is larger than 64 KiB", body = Problem),
        (status = 415, description = "the Content-Type is not JSON", body = Problem),
        (status = 422, description = "invalid fields, each with its error", body = Problem),
        (status = 503, description = "temporarily unavailable, see Retry-After", body = Problem)))]
pub(super) async fn replay_dead_letter(
    State(app): State<App>,
    ApiPath(number): ApiPath<u64>,
    replay: Option<ApiJson<ReplayOne>>,
) -> Result<Json<DeadLetterInList>, Problem> {
    let body = replay.and_then(|ApiJson(replay)| replay.body);
    if let Some(body) = &body {
        check_order(&app, body).await?;
    }
    let letter =
        dead_letters::replay(&app.bus, number, body.map(Into::into)).await.map_err(|error| problem(&app, error))?;
    counter!("off_dead_letters_replayed_total").increment(1);
    Ok(Json(in_list(letter)))
}

/// Refuses an order that nobody placed: somebody would be charged for it. What is no order is the business of its consumer.
async fn check_order(app: &App, body: &str) -> Result<(), Problem> {
    let Ok(order) = serde_json::from_str(body) else { return Ok(()) };
    if store::is_placed(&app.db, &order).await.map_err(Problem::of_database)? {
        return Ok(());
    }
    let error = "no order was placed with this id, device, person, product, quantity and price";
    Err(Problem::invalid(vec![FieldError::new("body", &error)]))
}

/// Delete a dead letter, with a reason.
#[utoipa::path(post, path = "/api/operator/dead-letters/{number}/drop", tag = "dead letters",
    security(("token" = ["operate"])), params(("number" = u64, Path, description = "its number in the list")),
    request_body = Drop,
    responses(
        (status = 200, description = "deleted", body = DeadLetterInList),
        (status = 400, description = "the body is not valid JSON", body = Problem),
        (status = 404, description = "no such dead letter", body = Problem),
        (status = 413, description = "the body is larger than 64 KiB", body = Problem),
        (status = 415, description = "the Content-Type is not JSON", body = Problem),
        (status = 422, description = "invalid fields, each with its error", body = Problem),
        (status = 503, description = "temporarily unavailable, see Retry-After", body = Problem)))]
pub(super) async fn drop_dead_letter(
    State(app): State<App>,
    ApiPath(number): ApiPath<u64>,
    ApiJson(Drop { why }): ApiJson<Drop>,
) -> Result<Json<DeadLetterInList>, Problem> {
    if off_kit::text::is_blank(&why) || why.chars().count() > MAX_WHY {
        return Err(Problem::invalid(vec![FieldError::new("why", &"expected 1 to 500 characters")]));
    }
    let letter =
        dead_letters::drop(&app.bus, number, &why, app.clock.now()).await.map_err(|error| problem(&app, error))?;
    counter!("off_dead_letters_dropped_total").increment(1);
    Ok(Json(in_list(letter)))
}

fn in_list(letter: DeadLetter) -> DeadLetterInList {
    let DeadLetter { number, consumer, subject, reason, time, .. } = letter;
    DeadLetterInList { number, consumer, subject, reason, time }
}

fn problem(app: &App, error: DeadLetterError) -> Problem {
    let detail = error.to_string();
    match error {
        DeadLetterError::Missing(_) => Problem::not_found(detail),
        DeadLetterError::WrongSubject(_) => Problem::new(Code::WrongSubject, detail),
        DeadLetterError::Truncated(_) => Problem::new(Code::TruncatedBody, detail),
        DeadLetterError::Broker(error) => of_broker(app, &error),
    }
}
