//! `/operator`: what needs attention, for operators. Its parts are pages of their own.

mod audit;
mod dead_letters;
mod faults;
mod imports;

use super::{
    Page,
    failure::Failure,
    layout::{Html, Layout, Section},
    order,
    system::grouped,
    texts, time,
    viewer::SignedIn,
};
use crate::routes::Upstream;
use askama::Template;
use axum::{
    Router,
    extract::State,
    routing::{get, post},
};
use chrono::{DateTime, Utc};
use serde::Deserialize;
use uuid::Uuid;

/// The pages of an operator, each with its path and title, in the order of their links.
const TABS: [(&str, &str); 5] = [
    ("/operator", texts::STREAMS),
    ("/operator/dead-letters", texts::DEAD_LETTERS),
    ("/operator/audit", texts::AUDIT),
    ("/operator/imports", texts::IMPORTS),
    ("/operator/faults", texts::FAULTS),
];

/// Their routes.
pub(super) fn router() -> Router<Page> {
    Router::new()
        .route("/operator", get(show))
        .route("/operator/orders/{id}", get(order::show_any))
        .route("/operator/audit", get(audit::show).post(audit::start))
        .route("/operator/dead-letters", get(dead_letters::list))
        .route("/operator/dead-letters/replay", post(dead_letters::replay_all))
        .route("/operator/dead-letters/{number}", get(dead_letters::show))
        .route("/operator/dead-letters/{number}/replay", post(dead_letters::replay).layer(dead_letters::LIMIT))
        .route("/operator/dead-letters/{number}/drop", post(dead_letters::drop))
        .route("/operator/faults", get(faults::list))
        .route("/operator/faults/{kind}", post(faults::set))
        .route("/operator/faults/{kind}/clear", post(faults::clear))
        .route("/operator/imports", get(imports::list))
        .route("/operator/imports/{id}", get(imports::show))
}

#[derive(Debug, Deserialize)]
struct Streams {
    streams: Vec<Stream>,
}

#[derive(Debug, Deserialize)]
struct Stream {
    name: String,
    is_missing: bool,
    messages: u64,
    bytes: u64,
    max_bytes: u64,
    oldest_at: Option<DateTime<Utc>>,
    consumers: Vec<Consumer>,
}

#[derive(Debug, Deserialize)]
struct Consumer {
    name: String,
    is_missing: bool,
    service: String,
    waiting: u64,
    unacknowledged: u64,
    redelivered: u64,
    pulls: u64,
}

#[derive(Debug, Deserialize)]
struct Overdue {
    orders: Vec<OverdueOrder>,
}

#[derive(Debug, Deserialize)]
struct OverdueOrder {
    id: Uuid,
    status: String,
    deadline: DateTime<Utc>,
    announcements: i32,
}

#[derive(Debug, Template)]
#[template(path = "operator.html")]
pub(super) struct OperatorPage {
    layout: Layout,
    tab: &'static str,
    streams: Vec<Stream>,
    overdue: Vec<OverdueOrder>,
}

/// `GET /operator`.
pub(super) async fn show(
    State(page): State<Page>,
    SignedIn(caller, _): SignedIn,
) -> Result<Html<OperatorPage>, Failure> {
    let (streams, overdue) = tokio::try_join!(
        page.services.get(&caller, Upstream::Operator, "/api/operator/streams"),
        page.services.get(&caller, Upstream::Operator, "/api/operator/overdue-orders"),
    )?;
    let (Streams { streams }, Overdue { orders: overdue }) = (streams, overdue);
    let layout = Layout::new(&caller, Section::Operator);
    Ok(Html(OperatorPage { layout, tab: "/operator", streams, overdue }))
}

impl Stream {
    /// Its size and the size at which it is full.
    fn size(&self) -> String {
        texts::size(self.bytes as f64 / f64::from(1 << 20), self.max_bytes >> 20)
    }
}

impl Consumer {
    /// Whether messages wait and nobody asks for them.
    fn is_abandoned(&self) -> bool {
        self.waiting > 0 && self.pulls == 0 && self.unacknowledged == 0
    }
}

/// A number of messages, for people.
fn count(number: u64) -> String {
    grouped(i64::try_from(number).unwrap_or(i64::MAX))
}
