//! Why a page cannot be shown, or a form was refused.

use super::{form::Form, texts};
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
    /// A form that can be sent again without a second effect.
    pub(super) again: Option<Box<Again>>,
}

/// A form to send again.
#[derive(Debug, Clone)]
pub(crate) struct Again {
    pub(super) path: String,
    pub(super) fields: Vec<(String, String)>,
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
        Self { status, code: String::new(), detail: detail.into(), errors: Vec::new(), again: None }
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
        Self::new(StatusCode::SERVICE_UNAVAILABLE, texts::no_answer(service))
    }

    /// An answer that is not a success.
    pub(super) fn of_answer(answer: &Answer<Bytes>) -> Self {
        let Problem { code, detail, errors } = serde_json::from_slice(answer.body()).unwrap_or_default();
        let retry_after = answer.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
        let detail = match retry_after {
            Some(seconds) => texts::with_retry_after(&detail, seconds),
            None => detail,
        };
        Self { status: answer.status(), code, detail, errors, again: None }
    }

    /// The same failure, with the form that was sent to `path`. Its key makes it safe to send it again: it is not known
    /// whether it had its effect.
    #[must_use]
    pub(super) fn with_form(self, path: String, form: &Form) -> Self {
        Self { again: Some(Box::new(Again { path, fields: form.fields() })), ..self }
    }

    /// All that is wrong, as one text.
    pub(super) fn text(&self) -> String {
        if self.errors.is_empty() {
            return self.detail.clone();
        }
        let errors = self.errors.iter().map(|error| format!("{}: {}", error.field, error.message));
        errors.collect::<Vec<_>>().join("; ")
    }

    /// All that is wrong, with the names that forms have for the fields.
    pub(super) fn in_words(&self) -> String {
        texts::FIELDS.iter().fold(self.text(), |text, (field, name)| text.replace(field, name))
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
