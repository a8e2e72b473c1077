//! People sign in, register and sign out.

use super::{
    Page,
    failure::Failure,
    form::Form,
    layout::{Html, Layout, Section},
    texts,
    viewer::Caller,
};
use crate::{routes::Upstream, session_cookie};
use askama::Template;
use axum::{
    extract::{Query, State},
    http::{HeaderMap, StatusCode, header},
    response::{AppendHeaders, IntoResponse, Redirect, Response},
};
use serde::Deserialize;
use serde_json::json;
use uuid::Uuid;

#[derive(Debug, Template)]
#[template(path = "sign_in.html")]
struct SignInPage {
    layout: Layout,
    next: String,
    email: String,
    error: String,
    /// Browsers keep the cookie only with TLS or on the machine itself.
    is_insecure: bool,
}

#[derive(Debug, Template)]
#[template(path = "register.html")]
struct RegisterPage {
    layout: Layout,
    next: String,
    first_name: String,
    last_name: String,
    email: String,
    mac_address: String,
    error: String,
}

/// Where to go after the sign-in.
#[derive(Debug, Deserialize)]
pub(super) struct Next {
    #[serde(default)]
    next: String,
}

/// What the auth service answers to a sign-in.
#[derive(Deserialize)]
struct Session {
    session_key: String,
    refresh_expires_in: i64,
}

/// What the users service answers to a registration.
#[derive(Deserialize)]
struct Registered {
    session: Option<FirstSession>,
}

#[derive(Deserialize)]
struct FirstSession {
    refresh_token: String,
}

/// `GET /sign-in`.
pub(super) async fn show_sign_in(caller: Caller, headers: HeaderMap, Query(Next { next }): Query<Next>) -> Response {
    if caller.person().is_some() {
        return Redirect::to(path(&next)).into_response();
    }
    sign_in_page(&caller, &headers, next, String::new(), String::new()).into_response()
}

fn sign_in_page(caller: &Caller, headers: &HeaderMap, next: String, email: String, error: String) -> Html<SignInPage> {
    let layout = Layout::new(caller, Section::Account);
    let is_insecure = !caller.viewer.client.tls && !is_local(headers);
    Html(SignInPage { layout, next, email, error, is_insecure })
}

/// `POST /sign-in`.
pub(super) async fn sign_in(
    State(page): State<Page>,
    caller: Caller,
    headers: HeaderMap,
    form: Form,
) -> Result<Response, Failure> {
    let (email, next) = (form.get("email"), form.get("next"));
    match start_session(&page, &caller, email, form.get("password")).await {
        // A newcomer learns what to do first beside their shelf.
        Ok(cookie) => {
            let next = if next.is_empty() { "/shelves" } else { path(next) };
            Ok((AppendHeaders(cookie), Redirect::to(next)).into_response())
        }
        Err(failure) if failure.status.is_client_error() => {
            let error = match failure.code.as_str() {
                "invalid_credentials" => texts::WRONG_CREDENTIALS.to_owned(),
                _ => failure.text(),
            };
            let shown = sign_in_page(&caller, &headers, next.to_owned(), email.to_owned(), error);
            Ok((failure.status, shown).into_response())
        }
        Err(failure) => Err(failure),
    }
}

/// Signs in; returns the cookie of the session.
async fn start_session(
    page: &Page,
    caller: &Caller,
    email: &str,
    password: &str,
) -> Result<Option<(header::HeaderName, header::HeaderValue)>, Failure> {
    let login = json!({"email": email, "password": password, "session_key": true});
    let session: Session = page.services.post(caller, Upstream::Auth, "/api/login", &login).await?;
    let cookie = session_cookie::set(&session.session_key, session.refresh_expires_in);
    Ok(cookie.map(|cookie| (header::SET_COOKIE, cookie)))
}

/// `POST /sign-out`.
pub(super) async fn sign_out(
    State(page): State<Page>,
    caller: Caller,
    headers: HeaderMap,
    _: Form,
) -> Result<Response, Failure> {
    if let Some(key) = session_cookie::session_key(&headers) {
        page.services.revoke(&caller, key).await?;
    }
    Ok(([(header::SET_COOKIE, session_cookie::removed())], Redirect::to("/")).into_response())
}

/// `GET /register`.
pub(super) async fn show_register(caller: Caller, Query(Next { next }): Query<Next>) -> Response {
    if caller.person().is_some() {
        return Redirect::to(path(&next)).into_response();
    }
    register_page(&caller, &Form::default(), next, String::new()).into_response()
}

fn register_page(caller: &Caller, form: &Form, next: String, error: String) -> Html<RegisterPage> {
    let field = |name| form.get(name).to_owned();
    Html(RegisterPage {
        layout: Layout::new(caller, Section::Account),
        next,
        first_name: field("first_name"),
        last_name: field("last_name"),
        email: field("email"),
        mac_address: field("mac_address"),
        error,
    })
}

/// `POST /register`: registers a person with one device, and signs them in.
pub(super) async fn register(State(page): State<Page>, caller: Caller, form: Form) -> Result<Response, Failure> {
    let next = form.get("next");
    let mac_address = match form.get("mac_address").trim() {
        "" => drawn_mac_address(),
        given => given.to_owned(),
    };
    let (email, password) = (form.get("email"), form.get("password"));
    let user = json!({
        "first_name": form.get("first_name"), "last_name": form.get("last_name"), "email": email, "password": password,
    });
    let body = json!({"user": user, "devices": [{"mac_address": mac_address}]});
    let registered: Result<Registered, _> = page.services.post(&caller, Upstream::Users, "/api/register", &body).await;
    match registered {
        Ok(Registered { session }) => {
            // The registration began a session with refresh tokens; a browser needs one with a key.
            if let Some(session) = session {
                // If it fails, the session is in the list of the account, and ends by itself.
                let _ = page.services.revoke(&caller, &session.refresh_token).await;
            }
            match start_session(&page, &caller, email, password).await {
                // A newcomer learns what to do first beside their shelf.
                Ok(cookie) => {
                    let next = if next.is_empty() { "/shelves" } else { path(next) };
                    Ok((AppendHeaders(cookie), Redirect::to(next)).into_response())
                }
                // They are registered nevertheless.
                Err(_) => Ok(Redirect::to("/sign-in").into_response()),
            }
        }
        Err(failure) if failure.status.is_client_error() => {
            let shown = register_page(&caller, &form, next.to_owned(), failure.in_words());
            Ok((StatusCode::UNPROCESSABLE_ENTITY, shown).into_response())
        }
        Err(failure) => Err(failure),
    }
}

/// The code of a device that only exists in off: an address for local use (IEEE 802), whose other bits are random.
pub(super) fn drawn_mac_address() -> String {
    let random = Uuid::new_v4().simple().to_string();
    let pairs: Vec<&str> = (0..10).step_by(2).filter_map(|start| random.get(start..start + 2)).collect();
    format!("02:{}", pairs.join(":"))
}

/// `next` if it is a path of this page, else the start.
fn path(next: &str) -> &str {
    let is_path = next.starts_with('/') && !next.starts_with("//") && !next.contains('\\');
    if is_path && next.bytes().all(|byte| byte.is_ascii_graphic()) { next } else { "/" }
}

/// Whether the browser runs on the same machine, as far as the name tells.
fn is_local(headers: &HeaderMap) -> bool {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    matches!(name, "localhost" | "127.0.0.1" | "[::1]") || name.ends_with(".localhost")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sign_in_leads_nowhere_else() {
        for own in ["/", "/orders?status=paid", "/orders/0190"] {
            assert_eq!(path(own), own);
        }
        for other in [
            "",
            "orders",
            "//evil.example",
            "/\\evil.example",
            "https://evil.example",
            "/\t/evil.example",
            "/\u{1}",
            "/ü",
        ] {
            assert_eq!(path(other), "/", "{other}");
        }
    }

    #[test]
    fn only_a_local_browser_keeps_the_cookie_without_tls() {
        let local = |host: &'static str| {
            is_local(&HeaderMap::from_iter([(header::HOST, header::HeaderValue::from_static(host))]))
        };
        assert!(local("localhost:8080") && local("127.0.0.1:8080") && local("[::1]:8080") && local("off.localhost"));
        assert!(!local("192.0.2.1:8080") && !local("localhost.example.org") && !local(""));
    }
}
