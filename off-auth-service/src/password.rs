//! People change their password.

use crate::{
    App, attempts,
    domain::{AttemptKey, EventKind, SecurityEvent},
    events,
    refusal::Refusal,
    store::{self, Account},
};
use off_events::UserId;
use off_kit::{auth::Subject, http::RequestSource};
use uuid::Uuid;

/// A person who changes their password, and the session from which they do.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Changer {
    pub(crate) user_id: UserId,
    pub(crate) session: Uuid,
}

/// Changes the password of a person who knows the old one, and ends all their other sessions. A wrong old one counts
/// like a failed sign-in. It ends what it began although the client leaves.
pub(crate) async fn change(
    app: &App,
    changer: Changer,
    old: String,
    new: String,
    source: &RequestSource,
) -> Result<(), Refusal> {
    let (running, source) = (app.clone(), source.clone());
    app.verifications.run(async move { try_change(&running, changer, old, new, &source).await }).await
}

async fn try_change(
    app: &App,
    changer: Changer,
    old: String,
    new: String,
    source: &RequestSource,
) -> Result<(), Refusal> {
    let (attempt, account) = take_attempt(app, changer.user_id, source).await?;
    let is_right = app.hasher.verify(old, Some(account.password_hash.clone())).await;
    if !attempts::or_give_back(app, &attempt, is_right).await? {
        return Err(refuse(app, changer.user_id, source).await?);
    }
    let is_stored = store_new(app, &attempt, &account, changer, new, source).await;
    if attempts::or_give_back(app, &attempt, is_stored).await? {
        Ok(())
    } else {
        Err(refuse(app, changer.user_id, source).await?)
    }
}

/// Stores the new password, after the old one was verified, and gives the attempt back. Returns false if the password
/// was changed meanwhile.
async fn store_new(
    app: &App,
    attempt: &AttemptKey,
    account: &Account,
    Changer { user_id, session }: Changer,
    new: String,
    source: &RequestSource,
) -> Result<bool, Refusal> {
    let hash = app.hasher.hash(new).await?;
    let now = app.clock.now();
    let mut tx = app.db.begin().await?;
    store::give_back_attempt(&mut tx, attempt, app.attempt_limits).await?;
    if !store::update_password(&mut tx, account, &hash, now).await? {
        return Ok(false);
    }
    let ended = store::end_other_sessions(&mut tx, user_id, session, "the password was changed", now).await?;
    events::put_revoked(app, &mut tx, &ended).await?;
    let detail = format!("{} other sessions ended", ended.len());
    let event = SecurityEvent::new(EventKind::PasswordChanged, Subject::Person(user_id), source, detail);
    store::insert_security_event(&mut tx, &event, now).await?;
    tx.commit().await?;
    app.outbox.wake();
    Ok(true)
}

async fn take_attempt(app: &App, user_id: UserId, source: &RequestSource) -> Result<(AttemptKey, Account), Refusal> {
    let email = store::find_email(&app.db, user_id).await?.ok_or(Refusal::WrongCredentials)?;
    let (attempt, account) = attempts::take(app, &email, source).await?;
    // The person may just have changed the address, and somebody else may have taken it.
    let account = account.filter(|account| account.user_id == user_id).ok_or(Refusal::WrongCredentials)?;
    Ok((attempt, account))
}

async fn refuse(app: &App, user_id: UserId, source: &RequestSource) -> sqlx::Result<Refusal> {
    let event = SecurityEvent::new(EventKind::PasswordChangeFailed, Subject::Person(user_id), source, "");
    let mut conn = app.db.acquire().await?;
    store::insert_security_event(&mut conn, &event, app.clock.now()).await?;
    Ok(Refusal::WrongCredentials)
}
