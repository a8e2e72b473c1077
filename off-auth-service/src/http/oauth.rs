//! Tokens for programs and devices: OAuth client credentials (RFC 6749) and revocation (RFC 7009).

mod basic;
mod error;
mod form;

use super::NO_STORE;
use crate::{
    App,
    clients::{self, Authenticated},
    domain::RefreshToken,
    refresh,
};
use axum::{
    Json,
    extract::State,
    http::{HeaderMap, HeaderName, HeaderValue},
};
use basic::basic_credentials;
use error::{ErrorCode, OAuthError};
use form::OAuthForm;
use off_kit::{
    auth::{OpaqueKey, TokenError},
    http::{Problem, RequestSource},
};
use serde::{Deserialize, Serialize};
use std::fmt;
use utoipa::ToSchema;

/// A request for a token, form-encoded.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct TokenRequest {
    #[schema(value_type = String, example = "client_credentials")]
    grant_type: Option<String>,
    /// Fewer scopes than the client has, separated by spaces; without it, all.
    #[schema(example = "simulate")]
    scope: Option<String>,
}

/// A token of a program or device.
#[derive(Serialize, ToSchema)]
pub(super) struct IssuedToken {
    access_token: String,
    #[schema(example = "Bearer")]
    token_type: &'static str,
    /// In seconds.
    #[schema(example = 600)]
    expires_in: i64,
    #[schema(example = "simulate")]
    scope: String,
}

/// Omits the token.
impl fmt::Debug for IssuedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IssuedToken").field("scope", &self.scope).finish_non_exhaustive()
    }
}

/// A token to revoke, form-encoded.
#[derive(Deserialize, ToSchema)]
pub(super) struct Revocation {
    /// A refresh token, a session key, or an access token of the client that asks.
    #[schema(value_type = String)]
    token: Option<String>,
    /// `refresh_token` or `access_token`; not needed.
    #[expect(dead_code, reason = "the form of a token tells what it is; the field is here for the document")]
    token_type_hint: Option<String>,
}

/// Omits the token.
impl fmt::Debug for Revocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Revocation").finish_non_exhaustive()
    }
}

/// The client that the `Authorization` header names; `None` without the header.
async fn find_client(app: &App, headers: &HeaderMap) -> Result<Option<Authenticated>, OAuthError> {
    let Some((id, secret)) = basic_credentials(headers)? else { return Ok(None) };
    let client = clients::authenticate(app, &id, &secret).await.map_err(OAuthError::of_database)?;
    client.map(Some).ok_or_else(OAuthError::invalid_client)
}

/// Obtain a token with the credentials of a program or device.
///
/// The credentials are sent as HTTP Basic: the name and secret of a client, or `ssd-` with the number of a device and
/// one of its keys, or `session` and a session key of `POST /api/login`. There is no refresh token: ask again before the token expires.
#[utoipa::path(post, path = "/oauth/token", tag = "oauth", security(()),
    request_body(content = TokenRequest, content_type = "application/x-www-form-urlencoded"),
    responses(
        (status = 200, description = "a token", body = IssuedToken),
        (status = 400, description = "an invalid request, with its error code", body = OAuthError),
        (status = 401, description = "no client has this name and secret", body = OAuthError),
        (status = 413, description = "the body is larger than 64 KiB", body = Problem),
        (status = 500, description = "a defect", body = OAuthError),
        (status = 503, description = "temporarily unavailable, see Retry-After", body = OAuthError)))]
pub(super) async fn issue_token(
    State(app): State<App>,
    source: RequestSource,
    headers: HeaderMap,
    OAuthForm(request): OAuthForm<TokenRequest>,
) -> Result<([(HeaderName, HeaderValue); 1], Json<IssuedToken>), OAuthError> {
    match request.grant_type.as_deref() {
        Some("client_credentials") => {}
        Some(_) => {
            return Err(OAuthError::new(ErrorCode::UnsupportedGrantType, "only client_credentials is supported"));
        }
        None => return Err(OAuthError::new(ErrorCode::InvalidRequest, "grant_type is missing")),
    }
    let client = find_client(&app, &headers).await?.ok_or_else(OAuthError::invalid_client)?;
    let token = clients::issue(&app, &client, request.scope.as_deref(), &source).await?;
    let (expires_in, scope) = (token.expires_in, token.scopes.to_string());
    Ok(([NO_STORE], Json(IssuedToken { access_token: token.text, token_type: "Bearer", expires_in, scope })))
}

/// Revoke a refresh token or a session key, which ends the session, or an access token of the client that asks.
///
/// Refresh tokens and session keys need no credentials. Access tokens cannot be revoked one by one: all that were obtained with the
/// same secret or key end, and so do new ones within the next ten minutes. An invalid token is no error.
#[utoipa::path(post, path = "/oauth/revoke", tag = "oauth", security(()),
    request_body(content = Revocation, content_type = "application/x-www-form-urlencoded"),
    responses(
        (status = 200, description = "the token is not valid any more"),
        (status = 400, description = "an invalid request, with its error code", body = OAuthError),
        (status = 401, description = "no client has this name and secret", body = OAuthError),
        (status = 413, description = "the body is larger than 64 KiB", body = Problem),
        (status = 500, description = "a defect", body = OAuthError),
        (status = 503, description = "temporarily unavailable, see Retry-After", body = OAuthError)))]
pub(super) async fn revoke_token(
    State(app): State<App>,
    source: RequestSource,
    headers: HeaderMap,
    OAuthForm(request): OAuthForm<Revocation>,
) -> Result<[(HeaderName, HeaderValue); 1], OAuthError> {
    let missing = || OAuthError::new(ErrorCode::InvalidRequest, "token is missing");
    let token = request.token.ok_or_else(missing)?;
    let client = find_client(&app, &headers).await?;
    if let Some(key) = OpaqueKey::parse(OpaqueKey::SESSION, &token) {
        refresh::sign_out_key(&app, &key, &source).await.map_err(OAuthError::of_database)?;
    } else if RefreshToken::parse(&token).is_some() {
        refresh::sign_out(&app, &token, &source).await.map_err(OAuthError::of_database)?;
    } else if let Some(client) = client {
        match app.verifier.verify(&token).await {
            Ok(principal) if principal.sid == client.sid => {
                clients::revoke_tokens(&app, &client, &source).await.map_err(OAuthError::of_database)?;
            }
            Err(TokenError::NoKeys) => return Err(OAuthError::unavailable()),
            // Not a token of this client, or not a valid one.
            Ok(_) | Err(_) => {}
        }
    }
    Ok([NO_STORE])
}
