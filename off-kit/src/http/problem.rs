//! Error responses: RFC 9457 `application/problem+json`.

use super::codes::{CommonCode, ProblemCode};
#[cfg(feature = "postgres")]
use crate::db;
use crate::{
    auth::{Scope, Scopes, TokenError},
    fields::FieldError,
    tasks::panic_message,
    telemetry,
};
use axum::{
    Json,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use std::any::Any;
use tracing::error;
#[cfg(feature = "postgres")]
use tracing::warn;
use utoipa::ToSchema;

/// The media type of a problem.
pub(super) const CONTENT_TYPE: &str = "application/problem+json";

/// An error response, RFC 9457. `code` is stable and meant for programs, `detail` for people.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Problem {
    #[serde(rename = "type")]
    #[schema(example = "urn:off:problem:invalid_body")]
    kind: Box<str>,
    #[schema(example = "Unprocessable Entity")]
    title: &'static str,
    #[schema(example = 422)]
    status: u16,
    #[schema(example = "invalid_body")]
    code: &'static str,
    detail: Box<str>,
    /// The invalid fields, each with the reason.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    errors: Box<[FieldError]>,
    /// The trace id of the request, to find it in the logs.
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<Box<str>>,
    /// Seconds to wait before a retry, for the `Retry-After` header.
    #[serde(skip)]
    retry_after: Option<u16>,
    /// The `WWW-Authenticate` header.
    #[serde(skip)]
    challenge: Option<Box<str>>,
}

impl Problem {
    /// A problem with a stable `code` for programs and a `detail` for people.
    pub fn new(code: impl ProblemCode, detail: impl Into<String>) -> Self {
        let (code, status) = (code.as_str(), code.status());
        Self {
            kind: format!("urn:off:problem:{code}").into(),
            title: status.canonical_reason().unwrap_or("Problem"),
            status: status.as_u16(),
            code,
            detail: detail.into().into(),
            errors: Box::default(),
            trace_id: None,
            retry_after: None,
            challenge: None,
        }
    }

    /// 422, with the invalid fields.
    pub fn invalid(errors: Vec<FieldError>) -> Self {
        let fields: Vec<&str> = errors.iter().map(|error| error.field.as_str()).collect();
        let detail = format!("the request is invalid: see {}", fields.join(", "));
        Self { errors: errors.into(), ..Self::new(CommonCode::InvalidBody, detail) }
    }

    /// 401 for a request without a token, or with an `Authorization` header that has no bearer token.
    pub fn unauthenticated() -> Self {
        let detail = "this needs an access token: send it as Authorization: Bearer TOKEN";
        Self { challenge: Some("Bearer".into()), ..Self::new(CommonCode::Unauthenticated, detail) }
    }

    /// 401 for a token that is not accepted; 503 while that cannot be decided.
    pub fn of_token(error: TokenError) -> Self {
        if error == TokenError::NoKeys {
            return Self::unavailable("tokens cannot be verified yet; try again");
        }
        let challenge = format!("Bearer error=\"invalid_token\", error_description=\"{error}\"");
        Self { challenge: Some(challenge.into()), ..Self::new(CommonCode::Unauthenticated, error.to_string()) }
    }

    /// 403 for a token without any of `scopes`.
    pub fn forbidden(scopes: Scopes) -> Self {
        let names: Vec<&str> = scopes.iter().map(Scope::as_str).collect();
        let detail = format!("this needs a token with the scope {}", names.join(" or "));
        let challenge = format!("Bearer error=\"insufficient_scope\", scope=\"{scopes}\"");
        Self { challenge: Some(challenge.into()), ..Self::new(CommonCode::Forbidden, detail) }
    }

    /// 404 for a resource that does not exist.
    pub fn not_found(what: impl Into<String>) -> Self {
        Self::new(CommonCode::NotFound, what)
    }

    /// 503 with `Retry-After: 2`, for a temporary condition.
    pub fn unavailable(what: &'static str) -> Self {
        let problem = Self::new(CommonCode::Unavailable, what);
        Self { retry_after: Some(2), ..problem }
    }

    /// The same problem with `Retry-After`.
    #[must_use]
    pub fn with_retry_after(self, seconds: u32) -> Self {
        Self { retry_after: Some(u16::try_from(seconds).unwrap_or(u16::MAX)), ..self }
    }

    /// The same problem with `WWW-Authenticate`, which every 401 has (RFC 9110, section 15.5.2).
    #[must_use]
    pub fn with_challenge(self, challenge: &str) -> Self {
        Self { challenge: Some(challenge.into()), ..self }
    }

    /// 413 for a body above the size limit.
    pub(super) fn too_large() -> Self {
        Self::new(CommonCode::TooLarge, "the body is larger than this service accepts")
    }

    /// 500. The cause is only in the log.
    pub fn internal() -> Self {
        let detail = "an internal error; the log contains the cause under the trace id of the request";
        Self::new(CommonCode::Internal, detail)
    }

    /// 503 for a transient error of the database, 500 for any other. The cause is only in the log. Errors that mean
    /// something to the client, like a violated constraint, are mapped where their query is.
    #[cfg(feature = "postgres")]
    pub fn of_database(error: sqlx::Error) -> Self {
        if db::is_transient(&error) {
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
        self.trace_id = telemetry::current_traceparent().as_deref().and_then(telemetry::trace_id).map(Into::into);
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let (retry_after, challenge) = (self.retry_after, self.challenge.take());
        let mut response = (status, Json(self)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static(CONTENT_TYPE));
        if let Some(seconds) = retry_after {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        if let Some(challenge) = challenge.and_then(|text| header::HeaderValue::from_str(&text).ok()) {
            headers.insert(header::WWW_AUTHENTICATE, challenge);
        }
        response
    }
}

/// The response to a request whose handler panicked.
pub(super) fn answer_panic(panic: Box<dyn Any + Send>) -> Response {
    error!("a handler panicked: {}", panic_message(panic.as_ref()));
    Problem::internal().into_response()
}
