//! Extractors whose refusals are problems.

use super::Problem;
use crate::fields::{FieldError, Object};
use axum::{
    body::Bytes,
    extract::{
        FromRequest, FromRequestParts, Request,
        rejection::{BytesRejection, PathRejection, QueryRejection},
    },
    http::{HeaderMap, StatusCode, header},
};
use serde::de::DeserializeOwned;

/// A JSON object as body. Malformed JSON is a 400, another content type or encoding a 415, a wrong type a 422 that names the field.
#[derive(Debug)]
pub struct ApiJson<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for ApiJson<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        if !is_json(request.headers()) {
            let detail = "the body has to be JSON: send the header Content-Type: application/json";
            return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "not_json", detail));
        }
        if let Some(encoding) = request.headers().get(header::CONTENT_ENCODING).filter(|name| *name != "identity") {
            let detail = format!("the body is encoded as {encoding:?}, which is not read: send it as it is");
            return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_encoding", detail));
        }
        let body = Bytes::from_request(request, state).await.map_err(refused_body)?;
        serde_json::from_slice(&body)
            .map(|Object(value)| Self(value))
            .map_err(|error| explain::<T>(&body).unwrap_or_else(|| unreadable(String::new(), &error)))
    }
}

/// What is wrong with a body that cannot be read, and where. Following the path to each field takes longer than reading it, so it
/// is done only then.
fn explain<T: DeserializeOwned>(body: &[u8]) -> Option<Problem> {
    let mut reader = serde_json::Deserializer::from_slice(body);
    let read: Result<Object<T>, _> = serde_path_to_error::deserialize(&mut reader);
    read.err().map(|error| unreadable(error.path().to_string(), error.inner()))
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    kind == "application/json" || (kind.starts_with("application/") && kind.ends_with("+json"))
}

fn unreadable(path: String, error: &serde_json::Error) -> Problem {
    if !error.is_data() {
        return Problem::new(StatusCode::BAD_REQUEST, "malformed_json", format!("the body is not JSON: {error}"));
    }
    let message = error.to_string();
    // The position of the field in the text helps nobody who has the field's name.
    let message = message.split(" at line ").next().unwrap_or_default();
    let field = if path.is_empty() || path == "." { "body".to_owned() } else { path };
    Problem::invalid(vec![FieldError::new(field, &message)])
}

fn refused_body(rejection: BytesRejection) -> Problem {
    match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Problem::too_large(),
        _ => unreadable_body(),
    }
}

/// 400 for a body that broke off.
pub(super) fn unreadable_body() -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "unreadable_body", "the body did not arrive whole")
}

/// Parameters in the path. What does not parse names nothing that exists: a 404.
#[derive(Debug, FromRequestParts)]
#[from_request(via(axum::extract::Path), rejection(Problem))]
pub struct ApiPath<T>(pub T);

impl From<PathRejection> for Problem {
    fn from(_: PathRejection) -> Self {
        Self::not_found("there is nothing of that name")
    }
}

/// Parameters in the query. What does not parse is a 400.
#[derive(Debug, FromRequestParts)]
#[from_request(via(axum::extract::Query), rejection(Problem))]
pub struct ApiQuery<T>(pub T);

impl From<QueryRejection> for Problem {
    fn from(rejection: QueryRejection) -> Self {
        let detail = rejection.body_text();
        Self::new(StatusCode::BAD_REQUEST, "invalid_query", detail)
    }
}
