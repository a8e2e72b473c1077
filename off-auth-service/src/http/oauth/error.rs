//! Errors as OAuth clients expect them: JSON with `error`, RFC 6749 section 5.2, not a problem of RFC 9457.

use crate::{clients::NotIssued, http::NO_STORE, keys::SigningError};
use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use off_kit::db;
use serde::Serialize;
use tracing::{error, warn};
use utoipa::ToSchema;

/// The error codes of the RFCs that occur here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::http) enum ErrorCode {
    InvalidRequest,
    InvalidClient,
    InvalidScope,
    UnsupportedGrantType,
    ServerError,
    TemporarilyUnavailable,
}

/// An error of an OAuth endpoint, RFC 6749 section 5.2.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct OAuthError {
    error: ErrorCode,
    error_description: &'static str,
}

impl OAuthError {
    pub(in crate::http) fn new(error: ErrorCode, error_description: &'static str) -> Self {
        Self { error, error_description }
    }

    /// 401: unknown client, wrong secret or no credentials.
    pub(in crate::http) fn invalid_client() -> Self {
        Self::new(ErrorCode::InvalidClient, "no client has this id and this secret")
    }

    /// 503.
    pub(in crate::http) fn unavailable() -> Self {
        Self::new(ErrorCode::TemporarilyUnavailable, "try again")
    }

    /// 503 for a transient error of the database, 500 for any other.
    pub(in crate::http) fn of_database(error: sqlx::Error) -> Self {
        if db::is_transient(&error) {
            warn!("the database does not answer: {error}");
            return Self::unavailable();
        }
        error!("a query failed: {error}");
        Self::new(ErrorCode::ServerError, "the log contains the cause")
    }

    fn status(&self) -> StatusCode {
        match self.error {
            ErrorCode::InvalidClient => StatusCode::UNAUTHORIZED,
            ErrorCode::InvalidRequest | ErrorCode::InvalidScope | ErrorCode::UnsupportedGrantType => {
                StatusCode::BAD_REQUEST
            }
            ErrorCode::ServerError => StatusCode::INTERNAL_SERVER_ERROR,
            ErrorCode::TemporarilyUnavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

impl From<NotIssued> for OAuthError {
    fn from(reason: NotIssued) -> Self {
        match reason {
            NotIssued::InvalidScope => Self::new(ErrorCode::InvalidScope, "the client may not have this scope"),
            NotIssued::Signing(SigningError::NoKey) => Self::unavailable(),
            NotIssued::Signing(SigningError::Failed(error)) => {
                error!("cannot sign a token: {error:#}");
                Self::new(ErrorCode::ServerError, "the log contains the cause")
            }
            NotIssued::Database(error) => Self::of_database(error),
        }
    }
}

impl IntoResponse for OAuthError {
    fn into_response(self) -> Response {
        let status = self.status();
        let mut response = (status, [NO_STORE], Json(self)).into_response();
        let headers = response.headers_mut();
        match status {
            StatusCode::UNAUTHORIZED => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"off\""));
            }
            StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("2"));
            }
            _ => {}
        }
        response
    }
}
