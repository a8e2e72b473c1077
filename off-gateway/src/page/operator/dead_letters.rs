//! `/operator/dead-letters`: messages that could not be handled. An operator repairs, replays or drops them.

use super::{TABS, count};
use crate::{
    page::{
        Page,
        failure::Failure,
        form::Form,
        layout::{Html, Layout, Section},
        texts,
        viewer::{Caller, SignedIn},
    },
    routes::Upstream,
};
use askama::Template;
use axum::{
    extract::{DefaultBodyLimit, Path, Query, State},
    http::StatusCode,
    response::{IntoResponse, Redirect, Response},
};
use chrono::{DateTime, Utc};
use off_events::streams::CONSUMERS;
use serde::Deserialize;
use serde_json::{Value, json};
use url::form_urlencoded::Serializer;

const PATH: &str = "/operator/dead-letters";

/// Maximum size of a form with a body, in bytes.
pub(super) const LIMIT: DefaultBodyLimit = DefaultBodyLimit::max(64 * 1024);

/// The largest body that can be repaired in a form, in bytes. In the form it may be three times as large.
const MAX_EDITABLE: usize = 16 * 1024;

/// Messages per second, unless the form says another number.
const PER_SECOND: &str = "50";

#[derive(Debug, Deserialize)]
struct Letters {
    dead_letters: Vec<LetterInList>,
    next_cursor: Option<u64>,
}

#[derive(Debug, Deserialize)]
struct LetterInList {
    number: u64,
    consumer: String,
    subject: String,
    reason: String,
    time: String,
}

#[derive(Debug, Deserialize)]
struct Letter {
    number: u64,
    consumer: String,
    subject: String,
    reason: String,
    sequence: String,
    deliveries: String,
    time: String,
    headers: Vec<Header>,
    body: String,
    is_text: bool,
    cut: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Header {
    name: String,
    value: String,
}

/// A replay of all that match.
#[derive(Debug, Deserialize)]
struct Replay {
    dry_run: bool,
    matched: u64,
    replayed: u64,
    skipped: u64,
    #[serde(default)]
    has_more: bool,
    ended_at: Option<DateTime<Utc>>,
    failure: Option<String>,
}

/// Which dead letters are shown. The fields are texts, because an empty one of a form means all.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Filter {
    #[serde(default)]
    consumer: String,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    since: String,
    #[serde(default)]
    until: String,
    #[serde(default)]
    cursor: String,
}

#[derive(Debug, Template)]
#[template(path = "operator_dead_letters.html")]
pub(in crate::page) struct LettersPage {
    layout: Layout,
    tab: &'static str,
    list: Letters,
    filter: Filter,
    consumers: Vec<&'static str>,
    /// A dry run, or the replay that runs or was the latest.
    run: Option<Replay>,
    per_second: String,
    error: String,
}

#[derive(Debug, Template)]
#[template(path = "operator_dead_letter.html")]
pub(in crate::page) struct LetterPage {
    layout: Layout,
    tab: &'static str,
    letter: Letter,
    /// The body as it is in the form.
    body: String,
    why: String,
    error: String,
}

impl Filter {
    fn of(form: &Form) -> Self {
        let get = |name| form.get(name).trim().to_owned();
        Self {
            consumer: get("consumer"),
            reason: get("reason"),
            since: get("since"),
            until: get("until"),
            cursor: String::new(),
        }
    }

    /// The fields that are set, as the API has them.
    fn fields(&self) -> impl Iterator<Item = (&'static str, String)> {
        let fields = [
            ("consumer", self.consumer.trim().to_owned()),
            ("reason", self.reason.trim().to_owned()),
            ("since", in_utc(&self.since)),
            ("until", in_utc(&self.until)),
        ];
        fields.into_iter().filter(|(_, value)| !value.is_empty())
    }

    /// The query for the page from `cursor` on.
    fn query(&self, cursor: &str) -> String {
        let mut query = Serializer::new(String::new());
        query.extend_pairs(self.fields());
        if !cursor.is_empty() {
            query.append_pair("cursor", cursor.trim());
        }
        query.finish()
    }
}

/// A time of a field `datetime-local`, which has no zone.
fn in_utc(time: &str) -> String {
    let time = time.trim();
    match time.len() {
        0 => String::new(),
        // Like 2026-11-30T20:15.
        16 => format!("{time}:00Z"),
        19 => format!("{time}Z"),
        _ => time.to_owned(),
    }
}

impl LettersPage {
    /// The query of the next page.
    fn next(&self) -> Option<String> {
        self.list.next_cursor.map(|cursor| self.filter.query(&cursor.to_string()))
    }
}

/// `GET /operator/dead-letters`.
pub(super) async fn list(
    State(page): State<Page>,
    SignedIn(caller, _): SignedIn,
    Query(filter): Query<Filter>,
) -> Result<Html<LettersPage>, Failure> {
    let latest = page.services.get(&caller, Upstream::Operator, "/api/operator/replays/latest").await;
    let run = match latest {
        Ok(run) => Some(run),
        Err(failure) if failure.status == StatusCode::NOT_FOUND => None,
        Err(failure) => return Err(failure),
    };
    list_page(&page, &caller, filter, run, PER_SECOND.to_owned(), String::new()).await
}

async fn list_page(
    page: &Page,
    caller: &Caller,
    filter: Filter,
    run: Option<Replay>,
    per_second: String,
    error: String,
) -> Result<Html<LettersPage>, Failure> {
    let path = format!("/api/operator/dead-letters?{}", filter.query(&filter.cursor));
    let list = page.services.get(caller, Upstream::Operator, &path).await?;
    let consumers = CONSUMERS.iter().map(|consumer| consumer.name).collect();
    let layout = Layout::new(caller, Section::Operator);
    Ok(Html(LettersPage { layout, tab: PATH, list, filter, consumers, run, per_second, error }))
}

/// `POST /operator/dead-letters/replay`: all that match, or a dry run.
pub(super) async fn replay_all(
    State(page): State<Page>,
    SignedIn(caller, _): SignedIn,
    form: Form,
) -> Result<Response, Failure> {
    let (filter, per_second) = (Filter::of(&form), form.get("per_second").trim().to_owned());
    let is_dry_run = form.get("action") == "dry_run";
    let mut body: Value = filter.fields().map(|(name, value)| (name.to_owned(), Value::from(value))).collect();
    body["dry_run"] = json!(is_dry_run);
    body["per_second"] = json!(per_second.parse::<u32>().unwrap_or_default());
    let answer = page.services.post(&caller, Upstream::Operator, "/api/operator/replays", &body).await;
    match answer {
        Ok(run) if is_dry_run => {
            Ok(list_page(&page, &caller, filter, Some(run), per_second, String::new()).await?.into_response())
        }
        Ok(Replay { .. }) => Ok(Redirect::to(&format!("{PATH}?{}", filter.query(""))).into_response()),
        Err(failure) if failure.status.is_client_error() && failure.status != StatusCode::FORBIDDEN => {
            let shown = list_page(&page, &caller, filter, None, per_second, failure.text()).await?;
            Ok((failure.status, shown).into_response())
        }
        Err(failure) => Err(failure),
    }
}

/// `GET /operator/dead-letters/{number}`.
pub(super) async fn show(
    State(page): State<Page>,
    SignedIn(caller, _): SignedIn,
    Path(number): Path<u64>,
) -> Result<Html<LetterPage>, Failure> {
    let letter = find(&page, &caller, number).await?;
    Ok(letter_page(&caller, letter, None, String::new(), String::new()))
}

async fn find(page: &Page, caller: &Caller, number: u64) -> Result<Letter, Failure> {
    page.services.get(caller, Upstream::Operator, &format!("/api/operator/dead-letters/{number}")).await
}

fn letter_page(caller: &Caller, letter: Letter, body: Option<String>, why: String, error: String) -> Html<LetterPage> {
    let body = body.unwrap_or_else(|| letter.body.clone());
    Html(LetterPage { layout: Layout::new(caller, Section::Operator), tab: PATH, letter, body, why, error })
}

impl Letter {
    /// Whether its body can be repaired in a form.
    fn is_editable(&self) -> bool {
        self.is_text && self.cut.is_empty() && self.body.len() <= MAX_EDITABLE
    }
}

/// `POST /operator/dead-letters/{number}/replay`: with the body of the form, or unchanged if there is none.
pub(super) async fn replay(
    State(page): State<Page>,
    SignedIn(caller, _): SignedIn,
    Path(number): Path<u64>,
    form: Form,
) -> Result<Response, Failure> {
    let letter = find(&page, &caller, number).await?;
    // Browsers send the lines of a text area with these ends.
    let body = form.get("body").replace("\r\n", "\n");
    let is_changed = !body.is_empty();
    if is_changed && let Err(error) = serde_json::from_str::<Value>(&body) {
        let error = texts::not_json(error);
        let shown = letter_page(&caller, letter, Some(body), String::new(), error);
        return Ok((StatusCode::UNPROCESSABLE_ENTITY, shown).into_response());
    }
    let sent = if is_changed { json!({ "body": body }) } else { json!({}) };
    let path = format!("/api/operator/dead-letters/{number}/replay");
    let replayed: Result<LetterInList, Failure> = page.services.post(&caller, Upstream::Operator, &path, &sent).await;
    match replayed {
        Ok(_) => Ok(Redirect::to(PATH).into_response()),
        Err(failure) if failure.status == StatusCode::CONFLICT => {
            let shown = letter_page(&caller, letter, Some(body), String::new(), failure.text());
            Ok((failure.status, shown).into_response())
        }
        Err(failure) => Err(failure),
    }
}

/// `POST /operator/dead-letters/{number}/drop`.
pub(super) async fn drop(
    State(page): State<Page>,
    SignedIn(caller, _): SignedIn,
    Path(number): Path<u64>,
    form: Form,
) -> Result<Response, Failure> {
    let path = format!("/api/operator/dead-letters/{number}/drop");
    let why = form.get("why").to_owned();
    let dropped: Result<LetterInList, Failure> =
        page.services.post(&caller, Upstream::Operator, &path, &json!({ "why": why })).await;
    match dropped {
        Ok(_) => Ok(Redirect::to(PATH).into_response()),
        Err(failure) if failure.status == StatusCode::UNPROCESSABLE_ENTITY => {
            let letter = find(&page, &caller, number).await?;
            let shown = letter_page(&caller, letter, None, why, failure.text());
            Ok((failure.status, shown).into_response())
        }
        Err(failure) => Err(failure),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_without_a_zone_is_in_utc() {
        assert_eq!(in_utc(" 2026-11-30T20:15 "), "2026-11-30T20:15:00Z");
        assert_eq!(in_utc("2026-11-30T20:15:03"), "2026-11-30T20:15:03Z");
        assert_eq!(in_utc("2026-11-30T20:15:03.123Z"), "2026-11-30T20:15:03.123Z");
        assert_eq!(in_utc(""), "");
    }
}
