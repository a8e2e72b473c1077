//! People change their password.

use crate::{
    App,
    domain::{EventKind, SecurityEvent, whole_seconds},
    events,
    refusal::Refusal,
    store::{self, Account, Attempt, Whose},
};
use off_events::UserId;
use off_kit::{auth::Subject, http::RequestSource};
use uuid::Uuid;

/// Changes the password of a person who knows the old one, and ends all their sessions but `session`. A wrong old one
/// counts like a failed sign-in.
pub(crate) async fn change(
    app: &App,
    user_id: UserId,
    session: Uuid,
    old: String,
    new: String,
    source: &RequestSource,
) -> Result<(), Refusal> {
    let account = take_attempt(app, user_id, source).await?;
    if !app.hasher.verify(old, Some(account.password_hash.clone())).await? {
        return Err(refuse(app, user_id, source).await?);
    }
    let hash = app.hasher.hash(new).await?;
    let now = app.clock.now();
    let mut tx = app.db.begin().await?;
    if !store::update_password(&mut tx, &account, app.attempt_limits, &hash, now).await? {
        drop(tx);
        return Err(refuse(app, user_id, source).await?);
    }
    let ended = store::end_other_sessions(&mut tx, user_id, session, "the password was changed", now).await?;
    events::put_revoked(app, &mut tx, &ended).await?;
    let detail = format!("{} other sessions ended", ended.len());
    let event = SecurityEvent::new(EventKind::PasswordChanged, Subject::Person(user_id), source, detail);
    store::insert_security_event(&mut tx, &event, now).await?;
    tx.commit().await?;
    app.outbox.wake();
    Ok(())
}

async fn take_attempt(app: &App, user_id: UserId, source: &RequestSource) -> Result<Account, Refusal> {
    let (now, whose) = (app.clock.now(), Whose::Person(user_id));
    match store::take_attempt(&app.db, whose, source.network(), app.attempt_limits, now).await? {
        Attempt::Allowed(account) => Ok(account),
        Attempt::Refused(wait) => Err(Refusal::TooManyAttempts(whole_seconds(wait))),
        Attempt::Unknown => Err(Refusal::WrongCredentials),
    }
}

async fn refuse(app: &App, user_id: UserId, source: &RequestSource) -> sqlx::Result<Refusal> {
    let event = SecurityEvent::new(EventKind::PasswordChangeFailed, Subject::Person(user_id), source, "");
    let mut conn = app.db.acquire().await?;
    store::insert_security_event(&mut conn, &event, app.clock.now()).await?;
    Ok(Refusal::WrongCredentials)
}
