//! `/operator/audit`: runs the audit, and shows each line of its result.

use super::TABS;
use crate::{
    page::{
        Page,
        failure::Failure,
        form::Form,
        layout::{Html, Layout, Section},
        time,
        viewer::SignedIn,
    },
    routes::Upstream,
};
use askama::Template;
use axum::{extract::State, http::StatusCode, response::Redirect};
use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::{Value, json};

const PATH: &str = "/operator/audit";

#[derive(Debug, Deserialize)]
struct AuditState {
    running_since: Option<DateTime<Utc>>,
    failure: Option<String>,
    latest: Option<AuditResult>,
}

#[derive(Debug, Deserialize)]
struct AuditResult {
    began_at: DateTime<Utc>,
    read: String,
    lines: Vec<Line>,
    passed: bool,
    verdict: String,
}

#[derive(Debug, Deserialize)]
struct Line {
    check: String,
    is_true: bool,
    claim: String,
    findings: Vec<String>,
}

#[derive(Debug, Template)]
#[template(path = "operator_audit.html")]
pub(in crate::page) struct AuditPage {
    layout: Layout,
    tab: &'static str,
    state: AuditState,
}

/// `GET /operator/audit`.
pub(super) async fn show(State(page): State<Page>, SignedIn(caller, _): SignedIn) -> Result<Html<AuditPage>, Failure> {
    let state = page.services.get(&caller, Upstream::Operator, "/api/operator/audits/latest").await?;
    Ok(Html(AuditPage { layout: Layout::new(&caller, Section::Operator), tab: PATH, state }))
}

/// `POST /operator/audit`.
pub(super) async fn start(
    State(page): State<Page>,
    SignedIn(caller, _): SignedIn,
    _: Form,
) -> Result<Redirect, Failure> {
    let started: Result<Value, Failure> =
        page.services.post(&caller, Upstream::Operator, "/api/operator/audits", &json!({})).await;
    match started {
        // One that runs already is shown, too.
        Err(failure) if failure.status != StatusCode::CONFLICT => Err(failure),
        _ => Ok(Redirect::to(PATH)),
    }
}
