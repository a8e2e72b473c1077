//! People sign in with their e-mail address and password.

use crate::{
    App,
    domain::{EventKind, MAX_SESSIONS, SecurityEvent, Session, whole_seconds},
    events,
    refusal::Refusal,
    secret,
    store::{self, Account, Attempt, NewSession, Whose},
    tokens::{self, TokenPair},
};
use metrics::counter;
use off_kit::{auth::Subject, email::Email, http::RequestSource, password::Hasher};
use uuid::Uuid;

/// Starts a session of the person with this e-mail address and password.
pub(crate) async fn sign_in(
    app: &App,
    email: &str,
    password: String,
    source: &RequestSource,
) -> Result<TokenPair, Refusal> {
    let result = try_sign_in(app, email, password, source).await;
    let outcome = match &result {
        Ok(_) => "ok",
        Err(Refusal::WrongCredentials) => "wrong",
        Err(Refusal::TooManyAttempts(_)) => "limited",
        Err(_) => "failed",
    };
    counter!("off_sign_ins_total", "outcome" => outcome).increment(1);
    result
}

async fn try_sign_in(app: &App, email: &str, password: String, source: &RequestSource) -> Result<TokenPair, Refusal> {
    let account = find_account(app, email, source).await?;
    // Without an account the same work is done, so that the time does not tell whether there is one.
    let hash = account.as_ref().map(|account| account.password_hash.clone());
    let is_right = app.hasher.verify(password.clone(), hash).await?;
    let account = match account {
        Some(account) if is_right => account,
        account => return Err(refuse(app, account.as_ref(), source).await?),
    };
    let new_hash =
        if Hasher::needs_rehash(&account.password_hash) { Some(app.hasher.hash(password).await?) } else { None };
    let Some(session) = start_session(app, &account, new_hash.as_deref(), source).await? else {
        return Err(refuse(app, Some(&account), source).await?);
    };
    Ok(tokens::issue_pair(app, &session)?)
}

/// Takes an attempt from the limits of the account, or of the e-mail address if nobody has it. `None` if nobody has it.
async fn find_account(app: &App, email: &str, source: &RequestSource) -> Result<Option<Account>, Refusal> {
    let (now, network) = (app.clock.now(), source.network());
    let email = Email::parse(email).map_or_else(|_| email.to_owned(), |email| email.as_str().to_owned());
    // Postgres does not take a NUL character, which is in no address.
    let attempt = if email.contains('\0') {
        Attempt::Unknown
    } else {
        store::take_attempt(&app.db, Whose::Email(&email), network.clone(), app.attempt_limits, now).await?
    };
    match attempt {
        Attempt::Allowed(account) => Ok(Some(account)),
        Attempt::Refused(wait) => Err(Refusal::TooManyAttempts(whole_seconds(wait))),
        Attempt::Unknown => {
            app.unknown_attempts.take(&email, &network, now).map_err(Refusal::TooManyAttempts)?;
            Ok(None)
        }
    }
}

/// Records a failed sign-in.
async fn refuse(app: &App, account: Option<&Account>, source: &RequestSource) -> sqlx::Result<Refusal> {
    let subject = account.map(|account| Subject::Person(account.user_id).to_string()).unwrap_or_default();
    let event = SecurityEvent::new(EventKind::LoginFailed, subject, source, "");
    let mut conn = app.db.acquire().await?;
    store::insert_security_event(&mut conn, &event, app.clock.now()).await?;
    Ok(Refusal::WrongCredentials)
}

/// Stores a session, after the password was verified. `None` if the password was changed meanwhile.
async fn start_session(
    app: &App,
    account: &Account,
    new_hash: Option<&str>,
    source: &RequestSource,
) -> Result<Option<Session>, Refusal> {
    let (now, user_id, id) = (app.clock.now(), account.user_id, Uuid::now_v7());
    let salt = secret::draw_salt().map_err(Refusal::Failed)?;
    let ends_at = now + app.session_limits.max;
    let idle_until = app.session_limits.idle_until(now, ends_at);
    let mut tx = app.db.begin().await?;
    if !store::confirm_attempt(&mut tx, account, app.attempt_limits, new_hash).await? {
        return Ok(None);
    }
    let surplus = store::end_surplus_sessions(&mut tx, user_id, MAX_SESSIONS - 1, now).await?;
    events::put_revoked(app, &mut tx, &surplus).await?;
    let RequestSource { user_agent, address } = source;
    let new = NewSession { id, user_id, salt: &salt, now, idle_until, ends_at, user_agent, address };
    store::insert_session(&mut tx, &new).await?;
    let event = SecurityEvent::new(EventKind::Login, Subject::Person(user_id), source, id.to_string());
    store::insert_security_event(&mut tx, &event, now).await?;
    tx.commit().await?;
    app.outbox.wake();
    Ok(Some(Session {
        id,
        user_id,
        is_operator: account.is_operator,
        salt: salt.to_vec(),
        generation: 0,
        refreshed_at: now,
        idle_until,
        ends_at,
        is_revoked: false,
    }))
}
