//! Why a page cannot be shown, or a form was refused.

use axum::{
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use hyper::Response as Answer;
use serde::Deserialize;

/// What a service answered instead of what was asked for.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    pub(crate) status: StatusCode,
    /// The stable code of the problem; empty if there is none.
    pub(super) code: String,
    /// What happened, for people.
    pub(crate) detail: String,
    /// The invalid fields, each with its error.
    pub(super) errors: Vec<InvalidField>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct InvalidField {
    pub(super) field: String,
    pub(super) message: String,
}

/// The parts of a problem (RFC 9457) that pages show.
#[derive(Debug, Default, Deserialize)]
struct Problem {
    #[serde(default)]
    code: String,
    #[serde(default)]
    detail: String,
    #[serde(default)]
    errors: Vec<InvalidField>,
}

impl Failure {
    pub(super) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self { status, code: String::new(), detail: detail.into(), errors: Vec::new() }
    }

    /// 404.
    pub(super) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, detail)
    }

    /// 422.
    pub(super) fn invalid(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, detail)
    }

    /// A service does not answer.
    pub(super) fn unavailable(service: &str) -> Self {
        let detail = format!("The {service} service does not answer. Try again in a moment.");
        Self::new(StatusCode::SERVICE_UNAVAILABLE, detail)
    }

    /// An answer that is not a success.
    pub(super) fn of_answer(answer: &Answer<Bytes>) -> Self {
        let Problem { code, detail, errors } = serde_json::from_slice(answer.body()).unwrap_or_default();
        let retry_after = answer.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
        let detail = match retry_after {
            Some(seconds) => format!("{detail} (in {seconds} s)"),
            None => detail,
        };
        Self { status: answer.status(), code, detail, errors }
    }

    /// All that is wrong, as one text.
    pub(super) fn text(&self) -> String {
        if self.errors.is_empty() {
            return self.detail.clone();
        }
        let errors = self.errors.iter().map(|error| format!("{}: {}", error.field, error.message));
        errors.collect::<Vec<_>>().join("; ")
    }
}

/// An answer without a body, which `layout::finish` turns into a page.
impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}
