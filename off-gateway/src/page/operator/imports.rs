//! `/operator/imports`: the imports of the catalog, and what they rejected.

use super::{TABS, count};
use crate::{
    page::{
        Page,
        failure::Failure,
        layout::{Html, Layout, Section},
        time,
        viewer::SignedIn,
    },
    routes::Upstream,
};
use askama::Template;
use axum::extract::{Path, Query, State};
use chrono::{DateTime, Utc};
use serde::Deserialize;

const PATH: &str = "/operator/imports";

#[derive(Debug, Deserialize)]
struct Imports {
    imports: Vec<Import>,
    next_cursor: Option<i64>,
}

#[derive(Debug, Deserialize)]
struct Import {
    id: i64,
    name: String,
    started_at: DateTime<Utc>,
    changed_at: DateTime<Utc>,
    finished_at: Option<DateTime<Utc>>,
    read: u64,
    filtered_out: u64,
    new: u64,
    updated: u64,
    unchanged: u64,
    rejected: Vec<Tally>,
}

#[derive(Debug, Deserialize)]
struct Tally {
    reason: String,
    count: u64,
    first_line: u64,
}

#[derive(Debug, Deserialize)]
struct Rejects {
    rejects: Vec<Reject>,
    next_cursor: Option<i64>,
}

#[derive(Debug, Deserialize)]
struct Reject {
    line: i64,
    reason: String,
    barcode: Option<String>,
}

#[derive(Debug, Template)]
#[template(path = "operator_imports.html")]
pub(in crate::page) struct ImportsPage {
    layout: Layout,
    tab: &'static str,
    list: Imports,
}

#[derive(Debug, Template)]
#[template(path = "operator_rejects.html")]
pub(in crate::page) struct RejectsPage {
    layout: Layout,
    tab: &'static str,
    id: i64,
    list: Rejects,
}

/// Where a list goes on.
#[derive(Debug, Deserialize)]
pub(super) struct Cursor {
    cursor: Option<i64>,
}

impl Cursor {
    fn query(&self) -> String {
        self.cursor.map(|cursor| format!("?cursor={cursor}")).unwrap_or_default()
    }
}

/// `GET /operator/imports`.
pub(super) async fn list(
    State(page): State<Page>,
    SignedIn(caller, _): SignedIn,
    Query(cursor): Query<Cursor>,
) -> Result<Html<ImportsPage>, Failure> {
    let path = format!("/api/operator/imports{}", cursor.query());
    let list = page.services.get(&caller, Upstream::Operator, &path).await?;
    Ok(Html(ImportsPage { layout: Layout::new(&caller, Section::Operator), tab: PATH, list }))
}

/// `GET /operator/imports/{id}`.
pub(super) async fn show(
    State(page): State<Page>,
    SignedIn(caller, _): SignedIn,
    Path(id): Path<i64>,
    Query(cursor): Query<Cursor>,
) -> Result<Html<RejectsPage>, Failure> {
    let path = format!("/api/operator/imports/{id}/rejects{}", cursor.query());
    let list = page.services.get(&caller, Upstream::Operator, &path).await?;
    Ok(Html(RejectsPage { layout: Layout::new(&caller, Section::Operator), tab: PATH, id, list }))
}

impl Import {
    fn rejected(&self) -> u64 {
        self.rejected.iter().map(|tally| tally.count).sum()
    }
}
