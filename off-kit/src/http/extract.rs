//! Extractors with [`Problem`] rejections.

use super::{Problem, codes::CommonCode};
use crate::fields::{FieldError, Object};
use axum::{
    body::Bytes,
    extract::{
        FromRequest, FromRequestParts, OptionalFromRequest, Request,
        rejection::{BytesRejection, PathRejection, QueryRejection},
    },
    http::{HeaderMap, StatusCode, header},
};
use serde::de::DeserializeOwned;

/// A JSON object as body. Rejections: 400 for malformed JSON, 415 for another content type or encoding, 422 for a wrong
/// type, with the name of the field.
#[derive(Debug)]
pub struct ApiJson<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for ApiJson<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        if !is_json(request.headers()) {
            let detail = "the body must be JSON: send the header Content-Type: application/json";
            return Err(Problem::new(CommonCode::NotJson, detail));
        }
        if let Some(encoding) = request.headers().get(header::CONTENT_ENCODING).filter(|name| *name != "identity") {
            let detail = format!("the content encoding {encoding:?} is not supported: send the body without encoding");
            return Err(Problem::new(CommonCode::UnsupportedEncoding, detail));
        }
        let body = Bytes::from_request(request, state).await.map_err(rejected_body)?;
        serde_json::from_slice(&body)
            .map(|Object(value)| Self(value))
            .map_err(|error| explain::<T>(&body).unwrap_or_else(|| unreadable(String::new(), &error)))
    }
}

/// `None` for a request without a body and without a content type.
impl<T: DeserializeOwned, S: Send + Sync> OptionalFromRequest<S> for ApiJson<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Option<Self>, Problem> {
        let headers = request.headers();
        let has_content = headers.get(header::CONTENT_LENGTH).is_some_and(|length| length != "0")
            || headers.contains_key(header::TRANSFER_ENCODING)
            || headers.contains_key(header::CONTENT_TYPE);
        if !has_content {
            return Ok(None);
        }
        <Self as FromRequest<S>>::from_request(request, state).await.map(Some)
    }
}

/// The error of an invalid body, with the path of the field. Tracking paths is slower than parsing, so the body is
/// parsed again only when it is invalid.
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
        return Problem::new(CommonCode::MalformedJson, format!("the body is not JSON: {error}"));
    }
    let message = error.to_string();
    // The field name is enough; the position in the text is left out.
    let message = message.split(" at line ").next().unwrap_or_default();
    let field = if path.is_empty() || path == "." { "body".to_owned() } else { path };
    Problem::invalid(vec![FieldError::new(field, &message)])
}

fn rejected_body(rejection: BytesRejection) -> Problem {
    match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Problem::too_large(),
        _ => unreadable_body(),
    }
}

/// 400 for a body that ended early.
pub(super) fn unreadable_body() -> Problem {
    Problem::new(CommonCode::UnreadableBody, "the body did not arrive completely")
}

/// Path parameters. An invalid parameter is a 404, because no such resource exists.
#[derive(Debug, FromRequestParts)]
#[from_request(via(axum::extract::Path), rejection(Problem))]
pub struct ApiPath<T>(pub T);

impl From<PathRejection> for Problem {
    fn from(_: PathRejection) -> Self {
        Self::not_found("there is no such resource")
    }
}

/// Query parameters. An invalid parameter is a 400.
#[derive(Debug, FromRequestParts)]
#[from_request(via(axum::extract::Query), rejection(Problem))]
pub struct ApiQuery<T>(pub T);

impl From<QueryRejection> for Problem {
    fn from(rejection: QueryRejection) -> Self {
        let detail = rejection.body_text();
        let detail = detail.rsplit_once("query string: ").map_or(detail.as_str(), |(_, reason)| reason);
        Self::new(CommonCode::InvalidQuery, detail)
    }
}
