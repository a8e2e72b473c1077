//! What goes wrong, told to a client: RFC 9457 `application/problem+json`.

use crate::{db, fields::FieldError, telemetry};
use axum::{
    Json,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use tracing::{error, warn};
use utoipa::ToSchema;

/// The media type of a problem.
pub(super) const CONTENT_TYPE: &str = "application/problem+json";

/// An answer that is not what the client hoped for. `code` is stable and made for programs, `detail` for people.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Problem {
    #[serde(rename = "type")]
    #[schema(example = "urn:off:problem:invalid_body")]
    kind: String,
    #[schema(example = "Unprocessable Entity")]
    title: String,
    #[schema(example = 422)]
    status: u16,
    #[schema(example = "invalid_body")]
    code: &'static str,
    detail: String,
    /// Each field that is wrong, and why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<FieldError>,
    /// The trace of the request: what to look for in the logs.
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<String>,
    /// Seconds to wait before trying again.
    #[serde(skip)]
    retry_after: Option<u32>,
}

impl Problem {
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self {
            kind: format!("urn:off:problem:{code}"),
            title: status.canonical_reason().unwrap_or("Problem").to_owned(),
            status: status.as_u16(),
            code,
            detail: detail.into(),
            errors: Vec::new(),
            trace_id: None,
            retry_after: None,
        }
    }

    /// 422, naming each field that is wrong.
    pub fn invalid(errors: Vec<FieldError>) -> Self {
        let fields: Vec<&str> = errors.iter().map(|error| error.field.as_str()).collect();
        let detail = format!("the request is understood, but not usable: see {}", fields.join(", "));
        Self { errors, ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_body", detail) }
    }

    /// 404 for a resource that does not exist.
    pub fn not_found(what: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", what)
    }

    /// 503, for something that is away now and worth another try.
    pub fn unavailable(what: &'static str) -> Self {
        let problem = Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", what);
        Self { retry_after: Some(2), ..problem }
    }

    /// 413.
    pub(super) fn too_large() -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", "the body is larger than this service reads")
    }

    /// 500. What happened is in the log, not in the answer.
    pub fn internal() -> Self {
        let detail = "something went wrong here; the request's trace leads to it in the log";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail)
    }
}

/// Where a database error means more than that, the query's caller says so; what is left is ours to repair.
impl From<sqlx::Error> for Problem {
    fn from(error: sqlx::Error) -> Self {
        if db::is_passing(&error) {
            warn!("the database does not answer: {error}");
            Self::unavailable("the database does not answer; try again")
        } else {
            error!("a query failed: {error}");
            Self::internal()
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(mut self) -> Response {
        self.trace_id = telemetry::current_traceparent().as_deref().and_then(telemetry::trace_id).map(str::to_owned);
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let retry_after = self.retry_after;
        let mut response = (status, Json(self)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static(CONTENT_TYPE));
        if let Some(seconds) = retry_after {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}
