//! The bodies of forms.

use super::{failure::Failure, texts};
use crate::session_cookie;
use axum::{
    body::Bytes,
    extract::{DefaultBodyLimit, FromRequest, Request},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use std::{collections::HashMap, time::Duration};
use tokio::time::timeout;
use uuid::Uuid;

/// How long a browser may take to send a form.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Maximum size of a form, in bytes.
pub(super) const LIMIT: DefaultBodyLimit = DefaultBodyLimit::max(16 * 1024);

/// The fields of a form that a page of this origin sent.
#[derive(Default)]
pub(super) struct Form(HashMap<String, String>);

/// Without the values, which may be secret.
impl std::fmt::Debug for Form {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.keys()).finish()
    }
}

impl Form {
    /// The value of a field; empty if it is missing.
    pub(super) fn get(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    /// All fields with their values.
    pub(super) fn fields(&self) -> Vec<(String, String)> {
        self.0.iter().map(|(name, value)| (name.clone(), value.clone())).collect()
    }
}

/// A key for a form: a form that is sent twice has its effect once.
pub(super) fn new_key() -> String {
    Uuid::now_v7().to_string()
}

impl<S: Send + Sync> FromRequest<S> for Form {
    type Rejection = Response;

    async fn from_request(request: Request, state: &S) -> Result<Self, Response> {
        // Also without a cookie: nobody may sign a browser in as somebody else.
        session_cookie::check_origin(request.method(), request.headers()).map_err(IntoResponse::into_response)?;
        let read = timeout(TIMEOUT, Bytes::from_request(request, state)).await;
        let late = |_| Failure::new(StatusCode::REQUEST_TIMEOUT, texts::LATE_FORM).into_response();
        let body = read.map_err(late)?.map_err(IntoResponse::into_response)?;
        Ok(Self(url::form_urlencoded::parse(&body).into_owned().collect()))
    }
}
