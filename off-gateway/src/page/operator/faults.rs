//! `/operator/faults`: the failure switches.

use super::TABS;
use crate::{
    page::{
        Page,
        failure::Failure,
        form::Form,
        layout::{Html, Layout, Section},
        texts, time,
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
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

const PATH: &str = "/operator/faults";

/// The longest time of a switch: a day.
const MAX_MINUTES: u64 = 1_440;

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

/// The body of the request that switches a failure on.
#[derive(Debug, Serialize)]
struct NewFault {
    share: f64,
    amount: Option<u32>,
    consumer: Option<String>,
    seed: u64,
    seconds: u64,
}

impl NewFault {
    /// From the fields of a form. Fails with a text for people.
    fn of(field: impl Fn(&str) -> String) -> Result<Self, &'static str> {
        let optional = |name| Some(field(name)).filter(|text| !text.is_empty());
        let percent: f64 = field("share").parse().map_err(|_| texts::NO_SHARE)?;
        let amount = optional("amount").map(|text| text.parse::<u32>()).transpose();
        let minutes = field("minutes").parse().ok().filter(|minutes| (1..=MAX_MINUTES).contains(minutes));
        Ok(Self {
            share: percent / 100.0,
            amount: amount.map_err(|_| texts::NO_FAULT_AMOUNT)?,
            consumer: optional("consumer"),
            seed: field("seed").parse().map_err(|_| texts::NO_SEED)?,
            seconds: minutes.ok_or(texts::NO_MINUTES)? * 60,
        })
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
    let field = |name: &str| form.get(name).trim().to_owned();
    let body = match NewFault::of(field) {
        Ok(body) => body,
        Err(error) => {
            let shown = show(&page, &caller, Some((kind, error.to_owned()))).await?;
            return Ok((StatusCode::UNPROCESSABLE_ENTITY, shown).into_response());
        }
    };
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
