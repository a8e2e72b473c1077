//! HTTP routes and handlers.

mod device_keys;
mod oauth;
mod sessions;
mod sign_in;
mod signing_keys;
mod well_known;

use crate::{App, codes::Code, keys::SigningError, refusal::Refusal};
use axum::http::{HeaderValue, header};
use off_kit::{http::Problem, password::HashError};
use tracing::error;
use utoipa_axum::{router::OpenApiRouter, routes};

/// Answers with secrets are kept by nobody.
const NO_STORE: (header::HeaderName, HeaderValue) = (header::CACHE_CONTROL, HeaderValue::from_static("no-store"));

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(sign_in::login))
        .routes(routes!(sign_in::refresh))
        .routes(routes!(sign_in::logout))
        .routes(routes!(sessions::change_password))
        .routes(routes!(sessions::list_sessions))
        .routes(routes!(sessions::end_session))
        .routes(routes!(device_keys::create_device_key, device_keys::list_device_keys))
        .routes(routes!(device_keys::revoke_device_key))
        .routes(routes!(oauth::issue_token))
        .routes(routes!(oauth::revoke_token))
        .routes(routes!(well_known::show_published_keys))
        .routes(routes!(well_known::show_metadata))
        .routes(routes!(signing_keys::list_signing_keys, signing_keys::rotate_signing_keys))
        .routes(routes!(signing_keys::retire_signing_key))
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let detail = refusal.to_string();
        match refusal {
            Refusal::WrongCredentials => Self::new(Code::InvalidCredentials, detail).with_challenge("Bearer"),
            Refusal::TooManyAttempts(seconds) => {
                let detail = format!("{detail}: try again in {seconds} s");
                Self::new(Code::TooManyAttempts, detail).with_retry_after(seconds)
            }
            Refusal::InvalidRefreshToken => Self::new(Code::InvalidGrant, detail).with_challenge("Bearer"),
            Refusal::Hash(HashError::Full) => Self::unavailable("too many people sign in at once; try again later"),
            Refusal::Database(error) => Self::of_database(error),
            Refusal::Signing(error) => of_signing(error),
            Refusal::Hash(HashError::Failed(_)) | Refusal::Failed(_) => {
                error!("{detail}");
                Self::internal()
            }
        }
    }
}

/// 503 until there is a key.
fn of_signing(error: SigningError) -> Problem {
    match error {
        SigningError::NoKey => Problem::unavailable("there is no key that signs tokens yet; try again"),
        SigningError::Failed(error) => {
            error!("cannot sign a token: {error:#}");
            Problem::internal()
        }
    }
}
