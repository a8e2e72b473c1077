//! Failure switches.

use super::of_broker;
use crate::{App, codes::Code};
use axum::{Json, extract::State, http::StatusCode};
use chrono::{DateTime, Utc};
use off_events::faults::{Fault, FaultKind, LONGEST};
use off_kit::{
    bus::faults,
    fields::FieldError,
    http::{ApiJson, ApiPath, Problem},
};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use tracing::warn;
use utoipa::ToSchema;

/// How long a switch is on, unless the request says another time, in seconds.
const SECONDS: u64 = 300;

/// All failure switches.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SwitchList {
    /// Whether they may be switched on here.
    are_allowed: bool,
    switches: Vec<Switch>,
}

/// A failure switch.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Switch {
    kind: FaultKind,
    /// What happens.
    about: &'static str,
    /// What its amount means; absent if it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    unit: Option<&'static str>,
    /// Its amount if none is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    default_amount: Option<u32>,
    /// Whether it can be about one consumer.
    is_of_consumer: bool,
    /// The metric that reacts.
    metric: &'static str,
    /// The alert that reacts.
    alert: &'static str,
    /// How it is on; absent if it is off.
    #[serde(skip_serializing_if = "Option::is_none")]
    fault: Option<Fault>,
}

/// How to switch a failure on.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct NewFault {
    /// The share of orders, messages or reports that it hits, above 0 and at most 1.
    #[serde(default = "everything")]
    #[schema(exclusive_minimum = 0.0, maximum = 1.0, default = 1.0)]
    share: f64,
    /// How much, in the unit of its kind.
    amount: Option<u32>,
    /// The only consumer that it hits.
    consumer: Option<String>,
    /// Another seed hits others.
    #[serde(default)]
    seed: u64,
    /// When it ends by itself, in seconds from now, at most a day.
    #[serde(default = "usual_time")]
    #[schema(minimum = 1, maximum = 86400, default = 300)]
    seconds: u64,
}

fn everything() -> f64 {
    1.0
}

fn usual_time() -> u64 {
    SECONDS
}

impl Switch {
    fn of(kind: FaultKind, faults: &[Fault], now: DateTime<Utc>) -> Self {
        let fault = faults.iter().find(|fault| fault.kind == kind && fault.until > now).cloned();
        Self {
            kind,
            about: kind.about(),
            unit: kind.amount().map(|amount| amount.unit),
            default_amount: kind.amount().map(|amount| amount.default),
            is_of_consumer: kind.is_of_consumer(),
            metric: kind.metric(),
            alert: kind.alert(),
            fault,
        }
    }
}

/// List the failure switches, also those that are off.
#[utoipa::path(get, path = "/api/operator/faults", tag = "failure switches", security(("token" = ["operate"])),
    responses(
        (status = 200, description = "the switches", body = SwitchList),
        (status = 503, description = "temporarily unavailable, see Retry-After", body = Problem)))]
pub(super) async fn list_faults(State(app): State<App>) -> Result<Json<SwitchList>, Problem> {
    let faults = faults::list(&app.bus).await.map_err(|error| of_broker(&app, &error))?;
    let now = app.clock.now();
    let switches = FaultKind::ALL.into_iter().map(|kind| Switch::of(kind, &faults, now)).collect();
    Ok(Json(SwitchList { are_allowed: app.allows_faults, switches }))
}

/// Switch a failure on, until it ends by itself. Services notice it within a second or two.
#[utoipa::path(put, path = "/api/operator/faults/{kind}", tag = "failure switches",
    security(("token" = ["operate"])), params(("kind" = FaultKind, Path, description = "the switch")),
    request_body = NewFault,
    responses(
        (status = 200, description = "it is on", body = Fault),
        (status = 400, description = "the body is not valid JSON", body = Problem),
        (status = 403, description = "failure switches are not allowed here (ALLOW_FAULTS)", body = Problem),
        (status = 404, description = "no such switch", body = Problem),
        (status = 413, description = "the body is larger than 64 KiB", body = Problem),
        (status = 415, description = "the Content-Type is not JSON", body = Problem),
        (status = 422, description = "invalid fields, each with its error", body = Problem),
        (status = 503, description = "temporarily unavailable, see Retry-After", body = Problem)))]
pub(super) async fn set_fault(
    State(app): State<App>,
    ApiPath(kind): ApiPath<FaultKind>,
    ApiJson(new): ApiJson<NewFault>,
) -> Result<Json<Fault>, Problem> {
    if !app.allows_faults {
        let detail = "failure switches are not allowed here: ALLOW_FAULTS is not set";
        return Err(Problem::new(Code::FaultsNotAllowed, detail));
    }
    let NewFault { share, amount, consumer, seed, seconds } = new;
    let until = app.clock.now() + Duration::from_secs(seconds.min(LONGEST.as_secs()));
    let fault = Fault { kind, share, amount, consumer, seed, until };
    let invalid = fault.invalid_fields().into_iter();
    let mut invalid: Vec<_> = invalid.map(|(field, error)| FieldError::new(field, &error)).collect();
    if !(1..=LONGEST.as_secs()).contains(&seconds) {
        invalid.push(FieldError::new("seconds", &"expected a number from 1 to 86400"));
    }
    if !invalid.is_empty() {
        return Err(Problem::invalid(invalid));
    }
    faults::set(&app.bus, &fault).await.map_err(|error| of_broker(&app, &error))?;
    warn!(target: "security", %kind, until = %fault.until, "a failure switch is on");
    Ok(Json(fault))
}

/// Switch a failure off.
#[utoipa::path(delete, path = "/api/operator/faults/{kind}", tag = "failure switches",
    security(("token" = ["operate"])), params(("kind" = FaultKind, Path, description = "the switch")),
    responses(
        (status = 204, description = "it is off"),
        (status = 404, description = "no such switch", body = Problem),
        (status = 503, description = "temporarily unavailable, see Retry-After", body = Problem)))]
pub(super) async fn clear_fault(
    State(app): State<App>,
    ApiPath(kind): ApiPath<FaultKind>,
) -> Result<StatusCode, Problem> {
    faults::clear(&app.bus, kind).await.map_err(|error| of_broker(&app, &error))?;
    Ok(StatusCode::NO_CONTENT)
}
