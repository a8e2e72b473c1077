//! People sign in with their e-mail address and password.

use crate::{
    App, attempts,
    domain::{AttemptKey, EventKind, MAX_SESSIONS, SecurityEvent, Session},
    events,
    refusal::Refusal,
    secret,
    store::{self, Account, NewSession},
    tokens::{self, TokenPair},
};
use metrics::counter;
use off_kit::{
    auth::{OpaqueKey, Subject},
    http::RequestSource,
    password::Hasher,
};
use uuid::Uuid;

/// A new session, and its key if one was asked for.
#[derive(Debug)]
pub(crate) struct SignedIn {
    pub(crate) pair: TokenPair,
    pub(crate) key: Option<OpaqueKey>,
}

/// Starts a session of the person with this e-mail address and password, with a key if `with_key`. It ends what it began
/// although the client leaves.
pub(crate) async fn sign_in(
    app: &App,
    email: &str,
    password: String,
    with_key: bool,
    source: &RequestSource,
) -> Result<SignedIn, Refusal> {
    let (running, email, source) = (app.clone(), email.to_owned(), source.clone());
    app.verifications
        .run(async move {
            let result = try_sign_in(&running, &email, password, with_key, &source).await;
            count(&result);
            result
        })
        .await
}

fn count(result: &Result<SignedIn, Refusal>) {
    let outcome = match result {
        Ok(_) => "ok",
        Err(Refusal::WrongCredentials) => "wrong",
        Err(Refusal::TooManyAttempts(_)) => "limited",
        Err(_) => "failed",
    };
    counter!("off_sign_ins_total", "outcome" => outcome).increment(1);
}

async fn try_sign_in(
    app: &App,
    email: &str,
    password: String,
    with_key: bool,
    source: &RequestSource,
) -> Result<SignedIn, Refusal> {
    let (attempt, account) = attempts::take(app, email, source).await?;
    // Without an account the same work is done, so that the time does not tell whether there is one.
    let hash = account.as_ref().map(|account| account.password_hash.clone());
    let is_right = app.hasher.verify(password.clone(), hash).await;
    let is_right = attempts::or_give_back(app, &attempt, is_right).await?;
    let account = match account {
        Some(account) if is_right => account,
        account => return Err(refuse(app, account.as_ref(), source).await?),
    };
    let session = start_session(app, &attempt, &account, password, with_key, source).await;
    let Some((session, key)) = attempts::or_give_back(app, &attempt, session).await? else {
        return Err(refuse(app, Some(&account), source).await?);
    };
    Ok(SignedIn { pair: tokens::issue_pair(app, &session)?, key })
}

/// Records a failed sign-in.
async fn refuse(app: &App, account: Option<&Account>, source: &RequestSource) -> sqlx::Result<Refusal> {
    let subject = account.map(|account| Subject::Person(account.user_id).to_string()).unwrap_or_default();
    let event = SecurityEvent::new(EventKind::LoginFailed, subject, source, "");
    let mut conn = app.db.acquire().await?;
    store::insert_security_event(&mut conn, &event, app.clock.now()).await?;
    Ok(Refusal::WrongCredentials)
}

/// Stores a session, after the password was verified, and gives the attempt back. `None` if the password was changed
/// meanwhile.
async fn start_session(
    app: &App,
    attempt: &AttemptKey,
    account: &Account,
    password: String,
    with_key: bool,
    source: &RequestSource,
) -> Result<Option<(Session, Option<OpaqueKey>)>, Refusal> {
    let new_hash =
        if Hasher::needs_rehash(&account.password_hash) { Some(app.hasher.hash(password).await?) } else { None };
    let (now, user_id, id) = (app.clock.now(), account.user_id, Uuid::now_v7());
    let salt = secret::draw_salt().map_err(Refusal::Failed)?;
    let key = with_key.then(|| OpaqueKey::generate(OpaqueKey::SESSION, id)).transpose().map_err(Refusal::Failed)?;
    let key_sha256 = key.as_ref().map(OpaqueKey::sha256);
    let key_sha256 = key_sha256.as_ref().map(|digest| &digest[..]);
    let ends_at = now + app.session_limits.max;
    let idle_until = app.session_limits.idle_until(now, ends_at);
    let mut tx = app.db.begin().await?;
    store::give_back_attempt(&mut tx, attempt, app.attempt_limits).await?;
    let Some(is_operator) = store::confirm_account(&mut tx, account, new_hash.as_deref()).await? else {
        return Ok(None);
    };
    let surplus = store::end_surplus_sessions(&mut tx, user_id, MAX_SESSIONS - 1, now).await?;
    events::put_revoked(app, &mut tx, &surplus).await?;
    let RequestSource { user_agent, address } = source;
    let new = NewSession { id, user_id, salt: &salt, key_sha256, now, idle_until, ends_at, user_agent, address };
    store::insert_session(&mut tx, &new).await?;
    let event = SecurityEvent::new(EventKind::Login, Subject::Person(user_id), source, id.to_string());
    store::insert_security_event(&mut tx, &event, now).await?;
    tx.commit().await?;
    app.outbox.wake();
    let session = Session {
        id,
        user_id,
        is_operator,
        salt: salt.to_vec(),
        generation: 0,
        refreshed_at: now,
        idle_until,
        ends_at,
        is_revoked: false,
    };
    Ok(Some((session, key)))
}
