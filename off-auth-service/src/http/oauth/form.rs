//! Form-encoded bodies of OAuth requests.

use super::error::{ErrorCode, OAuthError};
use axum::{
    body::Bytes,
    extract::{FromRequest, Request},
    http::{HeaderMap, header},
};
use serde::de::DeserializeOwned;
use std::collections::HashMap;
use url::form_urlencoded;

/// A form-encoded body. A parameter without a value counts as absent, and one that occurs twice is an error (RFC 6749,
/// section 3.2).
#[derive(Debug)]
pub(in crate::http) struct OAuthForm<T>(pub(in crate::http) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for OAuthForm<T> {
    type Rejection = OAuthError;

    async fn from_request(request: Request, state: &S) -> Result<Self, OAuthError> {
        let invalid = |description| OAuthError::new(ErrorCode::InvalidRequest, description);
        if !is_form(request.headers()) {
            return Err(invalid("send the body as application/x-www-form-urlencoded"));
        }
        let body = Bytes::from_request(request, state).await;
        let body = body.map_err(|_| invalid("the body did not arrive completely, or is too large"))?;
        let mut parameters: HashMap<String, serde_json::Value> = HashMap::new();
        for (name, value) in form_urlencoded::parse(&body).filter(|(_, value)| !value.is_empty()) {
            if parameters.insert(name.into_owned(), value.into_owned().into()).is_some() {
                return Err(invalid("a parameter occurs twice"));
            }
        }
        let value = serde_json::Value::Object(parameters.into_iter().collect());
        serde_json::from_value(value).map(Self).map_err(|_| invalid("the body is not readable"))
    }
}

fn is_form(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    kind.eq_ignore_ascii_case("application/x-www-form-urlencoded")
}
