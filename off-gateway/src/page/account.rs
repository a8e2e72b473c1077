//! `/account`: money, letters, profile, password and sessions of the viewer.

mod money;

use super::{
    Page,
    failure::Failure,
    form::{Form, new_key},
    layout::{Html, Layout, Section},
    texts, time,
    viewer::SignedIn,
};
use crate::routes::Upstream;
use askama::Template;
use axum::{
    extract::{Path, Query, State},
    http::Method,
    response::{IntoResponse, Redirect, Response},
};
use chrono::{DateTime, Utc};
use off_events::Money;
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

/// Transfers per page.
const TRANSFERS: u32 = 20;

/// How many letters are shown.
const LETTERS: u32 = 20;

#[derive(Debug, Deserialize)]
struct Account {
    balance: Money,
    held: Money,
}

#[derive(Debug, Deserialize)]
struct Transfers {
    transfers: Vec<Transfer>,
    next_cursor: Option<i64>,
}

#[derive(Debug, Deserialize)]
struct Transfer {
    kind: String,
    /// The order, or the id of the deposit or withdrawal.
    subject: Uuid,
    amount: Money,
    is_credit: bool,
    at: DateTime<Utc>,
}

#[derive(Debug, Deserialize)]
struct Letters {
    letters: Vec<Letter>,
    unread: i64,
}

#[derive(Debug, Deserialize)]
struct Letter {
    id: i64,
    order_id: Option<Uuid>,
    subject: String,
    text: String,
    written_at: DateTime<Utc>,
    is_read: bool,
}

#[derive(Debug, Deserialize)]
struct Sessions {
    sessions: Vec<Session>,
}

#[derive(Debug, Deserialize)]
struct Session {
    id: Uuid,
    created_at: DateTime<Utc>,
    refreshed_at: DateTime<Utc>,
    user_agent: String,
    address: String,
    is_current: bool,
}

/// Personal: not `Debug`.
#[derive(Deserialize)]
struct Profile {
    first_name: String,
    last_name: String,
    email: String,
    phone: Option<String>,
}

#[derive(Template)]
#[template(path = "account.html")]
pub(super) struct AccountPage {
    layout: Layout,
    account: Account,
    statement: Transfers,
    letters: Letters,
    sessions: Vec<Session>,
    profile: Profile,
    /// What the last form did, if it did not work: the form, and why.
    refused: Option<(&'static str, String)>,
    /// The form that worked just now.
    saved: String,
}

impl AccountPage {
    /// Why a form was refused.
    fn error(&self, form: &str) -> Option<&str> {
        self.refused.as_ref().filter(|(refused, _)| *refused == form).map(|(_, error)| error.as_str())
    }
}

impl Transfer {
    fn text(&self) -> &'static str {
        texts::transfer(&self.kind)
    }

    /// Whether it is about an order.
    fn has_order(&self) -> bool {
        matches!(self.kind.as_str(), "charge" | "refund")
    }
}

/// What is shown of an account.
#[derive(Debug, Deserialize)]
pub(super) struct Shown {
    /// Where the statement goes on.
    cursor: Option<i64>,
    /// The form that worked just now.
    #[serde(default)]
    saved: String,
}

/// `GET /account`.
pub(super) async fn show(
    State(page): State<Page>,
    signed_in: SignedIn,
    Query(Shown { cursor, saved }): Query<Shown>,
) -> Result<Html<AccountPage>, Failure> {
    account_page(&page, &signed_in, cursor, None, saved).await
}

async fn account_page(
    page: &Page,
    SignedIn(caller, person): &SignedIn,
    cursor: Option<i64>,
    refused: Option<(&'static str, String)>,
    saved: String,
) -> Result<Html<AccountPage>, Failure> {
    let services = &page.services;
    let cursor = cursor.map(|cursor| format!("&cursor={cursor}")).unwrap_or_default();
    let transfers = format!("/api/account/transfers?limit={TRANSFERS}{cursor}");
    let letters = format!("/api/letters?limit={LETTERS}");
    let profile = format!("/api/users/{person}");
    let (account, statement, letters, sessions, profile) = tokio::try_join!(
        services.get::<Account>(caller, Upstream::Billing, "/api/account"),
        services.get::<Transfers>(caller, Upstream::Billing, &transfers),
        services.get::<Letters>(caller, Upstream::Notifications, &letters),
        services.get::<Sessions>(caller, Upstream::Auth, "/api/sessions"),
        services.get::<Profile>(caller, Upstream::Users, &profile),
    )?;
    let layout = Layout::new(caller, Section::Account);
    Ok(Html(AccountPage { layout, account, statement, letters, sessions: sessions.sessions, profile, refused, saved }))
}

/// Goes back to the account if a form worked, and else shows why not, beside the form.
async fn answer(
    page: &Page,
    signed_in: &SignedIn,
    form: &'static str,
    result: Result<Value, Failure>,
) -> Result<Response, Failure> {
    match result {
        Ok(_) => Ok(Redirect::to(&format!("/account?saved={form}#{form}")).into_response()),
        Err(failure) if failure.status.is_client_error() => {
            let shown = account_page(page, signed_in, None, Some((form, failure.in_words())), String::new()).await?;
            Ok((failure.status, shown).into_response())
        }
        Err(failure) => Err(failure),
    }
}

/// `POST /account/deposits` and `/account/withdrawals`.
pub(super) async fn pay(
    State(page): State<Page>,
    signed_in: SignedIn,
    Path(kind): Path<String>,
    form: Form,
) -> Result<Response, Failure> {
    let name = match kind.as_str() {
        "deposits" => "deposit",
        "withdrawals" => "withdraw",
        _ => return Err(Failure::not_found(texts::NO_PAGE)),
    };
    let result = match money::parse(form.get("amount")) {
        Some(amount) => {
            let (path, body) = (format!("/api/account/{kind}"), json!({"amount": amount}));
            let paid = page.services.post_once(&signed_in.0, Upstream::Billing, &path, &body, form.get("key")).await;
            paid.map_err(|failure: Failure| failure.with_form(format!("/account/{kind}"), &form))
        }
        None => Err(Failure::invalid(texts::NO_AMOUNT)),
    };
    answer(&page, &signed_in, name, result).await
}

/// `POST /account/letters/{id}/read`: marks a letter and all older ones as read.
pub(super) async fn mark_read(
    State(page): State<Page>,
    signed_in: SignedIn,
    Path(id): Path<i64>,
    _: Form,
) -> Result<Response, Failure> {
    let path = format!("/api/letters/{id}/read");
    let result = page.services.post(&signed_in.0, Upstream::Notifications, &path, &json!({})).await;
    answer(&page, &signed_in, "letters", result).await
}

/// `POST /account/profile`.
pub(super) async fn change_profile(
    State(page): State<Page>,
    signed_in: SignedIn,
    form: Form,
) -> Result<Response, Failure> {
    let phone = Some(form.get("phone").trim()).filter(|phone| !phone.is_empty());
    let body = json!({
        "first_name": form.get("first_name"), "last_name": form.get("last_name"), "email": form.get("email"),
        "phone": phone,
    });
    let path = format!("/api/users/{}", signed_in.1);
    let result = page.services.send(&signed_in.0, Upstream::Users, Method::PUT, &path, &body).await;
    answer(&page, &signed_in, "profile", result).await
}

/// `POST /account/password`.
pub(super) async fn change_password(
    State(page): State<Page>,
    signed_in: SignedIn,
    form: Form,
) -> Result<Response, Failure> {
    let body = json!({"old_password": form.get("old_password"), "new_password": form.get("new_password")});
    let result = page.services.send(&signed_in.0, Upstream::Auth, Method::PUT, "/api/password", &body).await;
    answer(&page, &signed_in, "password", result).await
}

/// `POST /account/sessions/{id}/end`.
pub(super) async fn end_session(
    State(page): State<Page>,
    signed_in: SignedIn,
    Path(id): Path<Uuid>,
    _: Form,
) -> Result<Response, Failure> {
    let path = format!("/api/sessions/{id}");
    let result = page.services.send(&signed_in.0, Upstream::Auth, Method::DELETE, &path, &json!({})).await;
    answer(&page, &signed_in, "sessions", result).await
}
