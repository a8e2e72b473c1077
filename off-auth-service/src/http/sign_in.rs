//! People sign in, refresh their tokens and sign out. Browsers may keep the refresh token in a cookie that scripts
//! cannot read.

use super::NO_STORE;
use crate::{App, refresh, refusal::Refusal, sign_in, tokens::TokenPair};
use axum::{
    Json,
    extract::State,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{AppendHeaders, IntoResponse},
};
use off_kit::{
    auth::OpaqueKey,
    fields::{Fields, Raw},
    http::{ApiJson, Problem, RequestSource},
};
use serde::{Deserialize, Serialize};
use std::fmt;
use utoipa::ToSchema;

/// The cookie with the refresh token. With this prefix browsers accept it only for this host, and only with `Secure`.
const COOKIE: &str = "__Host-off";

/// Who signs in.
#[derive(Deserialize, ToSchema)]
pub(super) struct Login {
    #[serde(default)]
    #[schema(value_type = String, required, example = "ada@example.org")]
    email: Raw,
    #[serde(default)]
    #[schema(value_type = String, required, format = "password", example = "correct horse battery")]
    password: Raw,
    /// Whether the refresh token is set as a cookie instead of being in the body.
    #[serde(default)]
    cookie: bool,
    /// Whether the session has a key instead of refresh tokens, for a browser that keeps it in a cookie.
    #[serde(default)]
    session_key: bool,
}

/// Omits the fields, which are personal or secret.
impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("cookie", &self.cookie).finish_non_exhaustive()
    }
}

/// A refresh token.
#[derive(Deserialize, ToSchema)]
pub(super) struct Refresh {
    /// Without it, the cookie is taken, from a page of the same origin only.
    #[schema(example = "offr_01890a5dac96774bbcceb302099a8057.0.c2VjcmV0")]
    refresh_token: Option<String>,
}

/// Omits the token.
impl fmt::Debug for Refresh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Refresh").finish_non_exhaustive()
    }
}

/// Tokens of a person.
#[derive(Serialize, ToSchema)]
pub(super) struct Tokens {
    /// A JWT: send it as `Authorization: Bearer …`.
    access_token: String,
    #[schema(example = "Bearer")]
    token_type: &'static str,
    /// Seconds until the access token expires.
    #[schema(example = 600)]
    expires_in: i64,
    /// What the access token allows.
    #[schema(example = "person")]
    scope: String,
    /// Gets the next tokens, once; absent if it is in the cookie, or the session has a key.
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_token: Option<String>,
    /// The key of the session, if one was asked for: its requests are Basic credentials with the user `session`, or the
    /// gateway's cookie `__Host-off-session`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "offk_01890a5dac96774bbcceb302099a8057_c2VjcmV0")]
    session_key: Option<String>,
    /// Seconds until the refresh token expires, or the session with its key if nobody uses it.
    #[schema(example = 2_592_000)]
    refresh_expires_in: i64,
}

/// How a session lives on after an answer.
#[derive(Debug)]
enum Kept {
    /// By the refresh token in the body.
    Body,
    /// By the refresh token in the cookie.
    Cookie,
    /// By its key.
    Key(OpaqueKey),
}

fn answer(pair: TokenPair, kept: &Kept) -> impl IntoResponse + use<> {
    let TokenPair { access, refresh_token, refresh_expires_in } = pair;
    let cookie = matches!(kept, Kept::Cookie).then(|| set_cookie(&refresh_token, refresh_expires_in));
    let tokens = Tokens {
        access_token: access.text,
        token_type: "Bearer",
        expires_in: access.expires_in,
        scope: access.scopes.to_string(),
        refresh_token: matches!(kept, Kept::Body).then_some(refresh_token),
        session_key: if let Kept::Key(key) = kept { Some(key.text().to_owned()) } else { None },
        refresh_expires_in,
    };
    ([NO_STORE], AppendHeaders(cookie.flatten()), Json(tokens))
}

/// The header that sets the cookie for `seconds`; 0 removes it.
fn set_cookie(token: &str, seconds: i64) -> Option<(HeaderName, HeaderValue)> {
    let cookie = format!("{COOKIE}={token}; Max-Age={seconds}; HttpOnly; Secure; SameSite=Strict; Path=/");
    HeaderValue::try_from(cookie).ok().map(|cookie| (header::SET_COOKIE, cookie))
}

/// The refresh token of a request, and where it was. The cookie counts only in a request that a page of the same origin
/// makes, because browsers send it on their own.
fn refresh_token(body: Option<ApiJson<Refresh>>, headers: &HeaderMap) -> Option<(String, Kept)> {
    if let Some(token) = body.and_then(|ApiJson(body)| body.refresh_token) {
        return Some((token, Kept::Body));
    }
    headers.get("sec-fetch-site").filter(|site| *site == "same-origin")?;
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut cookies = cookies.flat_map(|value| value.split(';')).filter_map(|cookie| cookie.trim().split_once('='));
    cookies.find(|(name, _)| *name == COOKIE).map(|(_, token)| (token.to_owned(), Kept::Cookie))
}

/// Sign in with an e-mail address and a password.
///
/// The answer is the same for an unknown address and for a wrong password. Wrong passwords are limited by
/// e-mail address and network, and by e-mail address. The access token is for the other requests; the refresh token gets
/// new ones at `POST /api/refresh`.
#[utoipa::path(post, path = "/api/login", tag = "sessions", security(()), request_body = Login,
    responses(
        (status = 200, description = "signed in", body = Tokens,
            headers(("Set-Cookie" = Option<String>, description = "the refresh token, if `cookie` is true"))),
        (status = 400, description = "the body is not valid JSON", body = Problem),
        (status = 401, description = "no account has this e-mail address and password", body = Problem),
        (status = 413, description = "the body is larger than 64 KiB", body = Problem),
        (status = 415, description = "the Content-Type is not JSON", body = Problem),
        (status = 422, description = "invalid fields, each with its error", body = Problem),
        (status = 429, description = "too many wrong passwords, see Retry-After", body = Problem),
        (status = 503, description = "temporarily unavailable, see Retry-After", body = Problem)))]
pub(super) async fn login(
    State(app): State<App>,
    source: RequestSource,
    ApiJson(login): ApiJson<Login>,
) -> Result<impl IntoResponse, Problem> {
    let mut fields = Fields::default();
    let email = fields.text("email", &login.email);
    let password = fields.text("password", &login.password);
    if login.cookie && login.session_key {
        fields.check::<(), _>("session_key", Err("a session has either a key or a refresh token in a cookie"));
    }
    let (email, password) = fields.finish(email.zip(password)).map_err(Problem::invalid)?;
    let signed_in = sign_in::sign_in(&app, email, password.to_owned(), login.session_key, &source).await?;
    let kept = match signed_in.key {
        Some(key) => Kept::Key(key),
        None if login.cookie => Kept::Cookie,
        None => Kept::Body,
    };
    Ok(answer(signed_in.pair, &kept))
}

/// Exchange a refresh token for new tokens.
///
/// Each refresh token works once. It may be repeated for a minute, and then gets the same answer; later use ends the
/// session, because somebody else has the token.
#[utoipa::path(post, path = "/api/refresh", tag = "sessions", security(()), request_body = Option<Refresh>,
    responses(
        (status = 200, description = "new tokens", body = Tokens,
            headers(("Set-Cookie" = Option<String>, description = "the refresh token, if it was in the cookie"))),
        (status = 400, description = "the body is not valid JSON", body = Problem),
        (status = 401, description = "the refresh token is not valid: sign in again", body = Problem),
        (status = 413, description = "the body is larger than 64 KiB", body = Problem),
        (status = 415, description = "the Content-Type is not JSON", body = Problem),
        (status = 422, description = "invalid fields, each with its error", body = Problem),
        (status = 503, description = "temporarily unavailable, see Retry-After", body = Problem)))]
pub(super) async fn refresh(
    State(app): State<App>,
    source: RequestSource,
    headers: HeaderMap,
    body: Option<ApiJson<Refresh>>,
) -> Result<impl IntoResponse, Problem> {
    let (token, kept) = refresh_token(body, &headers).ok_or(Refusal::InvalidRefreshToken)?;
    let pair = refresh::refresh(&app, &token, &source).await?;
    Ok(answer(pair, &kept))
}

/// End the session of a refresh token. Its access tokens end with it.
///
/// An invalid token is no error: there is no session then.
#[utoipa::path(post, path = "/api/logout", tag = "sessions", security(()), request_body = Option<Refresh>,
    responses(
        (status = 204, description = "there is no such session any more",
            headers(("Set-Cookie" = Option<String>, description = "removes the cookie, if the token was in it"))),
        (status = 400, description = "the body is not valid JSON", body = Problem),
        (status = 413, description = "the body is larger than 64 KiB", body = Problem),
        (status = 415, description = "the Content-Type is not JSON", body = Problem),
        (status = 422, description = "invalid fields, each with its error", body = Problem),
        (status = 503, description = "temporarily unavailable, see Retry-After", body = Problem)))]
pub(super) async fn logout(
    State(app): State<App>,
    source: RequestSource,
    headers: HeaderMap,
    body: Option<ApiJson<Refresh>>,
) -> Result<impl IntoResponse, Problem> {
    let mut removed = None;
    if let Some((token, kept)) = refresh_token(body, &headers) {
        refresh::sign_out(&app, &token, &source).await.map_err(Problem::of_database)?;
        removed = matches!(kept, Kept::Cookie).then(|| set_cookie("", 0)).flatten();
    }
    Ok((StatusCode::NO_CONTENT, [NO_STORE], AppendHeaders(removed)))
}
