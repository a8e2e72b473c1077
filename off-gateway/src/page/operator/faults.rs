//! `/operator/faults`: the failure switches.

use super::TABS;
use crate::{
    page::{
        Page,
        failure::Failure,
        form::Form,
        layout::{Html, Layout, Section},
        time,
        viewer::{Caller, SignedIn},
    },
    routes::Upstream,
};
use askama::Template;
use axum::{
    extract::{Path, State},
    http::{Method, StatusCode},
    response::{IntoResponse, Redirect, Response},
};
use off_events::{
    faults::{Fault, FaultKind},
    streams::CONSUMERS,
};
use serde::Deserialize;
use serde_json::{Value, json};

const PATH: &str = "/operator/faults";

#[derive(Debug, Deserialize)]
struct Switches {
    are_allowed: bool,
    switches: Vec<Switch>,
}

#[derive(Debug, Deserialize)]
struct Switch {
    kind: FaultKind,
    about: String,
    unit: Option<String>,
    default_amount: Option<u32>,
    is_of_consumer: bool,
    metric: String,
    alert: String,
    fault: Option<Fault>,
}

#[derive(Debug, Template)]
#[template(path = "operator_faults.html")]
pub(in crate::page) struct FaultsPage {
    layout: Layout,
    tab: &'static str,
    list: Switches,
    consumers: Vec<&'static str>,
    /// The switch whose form was refused, and why.
    refused: Option<(FaultKind, String)>,
}

impl FaultsPage {
    /// Why the form of a switch was refused.
    fn error(&self, kind: FaultKind) -> Option<&str> {
        self.refused.as_ref().filter(|(refused, _)| *refused == kind).map(|(_, error)| error.as_str())
    }
}

impl Switch {
    /// How it is on.
    fn state(fault: &Fault) -> String {
        let amount = fault.kind.amount().map(|amount| format!(", {} {}", fault.amount(), amount.unit));
        let consumer = fault.consumer.as_ref().map(|consumer| format!(", only {consumer}"));
        let (amount, consumer) = (amount.unwrap_or_default(), consumer.unwrap_or_default());
        format!("{} %{amount}{consumer}, seed {}", fault.share * 100.0, fault.seed)
    }
}

/// `GET /operator/faults`.
pub(super) async fn list(State(page): State<Page>, SignedIn(caller, _): SignedIn) -> Result<Html<FaultsPage>, Failure> {
    show(&page, &caller, None).await
}

async fn show(page: &Page, caller: &Caller, refused: Option<(FaultKind, String)>) -> Result<Html<FaultsPage>, Failure> {
    let list = page.services.get(caller, Upstream::Operator, "/api/operator/faults").await?;
    let consumers = CONSUMERS.iter().map(|consumer| consumer.name).collect();
    Ok(Html(FaultsPage { layout: Layout::new(caller, Section::Operator), tab: PATH, list, consumers, refused }))
}

/// `POST /operator/faults/{kind}`: switches a failure on.
pub(super) async fn set(
    State(page): State<Page>,
    SignedIn(caller, _): SignedIn,
    Path(kind): Path<FaultKind>,
    form: Form,
) -> Result<Response, Failure> {
    let number = |name| form.get(name).trim().parse::<u64>().ok();
    let optional = |name| Some(form.get(name).trim()).filter(|text| !text.is_empty());
    let percent: Option<f64> = form.get("share").trim().parse().ok();
    let body = json!({
        "share": percent.unwrap_or_default() / 100.0,
        "amount": optional("amount").map(|_| number("amount").and_then(|amount| u32::try_from(amount).ok()).unwrap_or(0)),
        "consumer": optional("consumer"),
        "seed": number("seed").unwrap_or_default(),
        "seconds": number("minutes").unwrap_or_default().saturating_mul(60),
    });
    let path = format!("/api/operator/faults/{kind}");
    match page.services.send::<Fault>(&caller, Upstream::Operator, Method::PUT, &path, &body).await {
        Ok(_) => Ok(Redirect::to(&format!("{PATH}#{kind}")).into_response()),
        Err(failure) if failure.status == StatusCode::UNPROCESSABLE_ENTITY => {
            let shown = show(&page, &caller, Some((kind, failure.text()))).await?;
            Ok((failure.status, shown).into_response())
        }
        Err(failure) => Err(failure),
    }
}

/// `POST /operator/faults/{kind}/clear`: switches a failure off.
pub(super) async fn clear(
    State(page): State<Page>,
    SignedIn(caller, _): SignedIn,
    Path(kind): Path<FaultKind>,
    _: Form,
) -> Result<Redirect, Failure> {
    let path = format!("/api/operator/faults/{kind}");
    page.services.send::<Value>(&caller, Upstream::Operator, Method::DELETE, &path, &json!({})).await?;
    Ok(Redirect::to(&format!("{PATH}#{kind}")))
}
