//! People change their password.

use crate::{
    App,
    domain::{EventKind, SecurityEvent, Visitor},
    events,
    refusal::Refusal,
    store::{self, Account, Attempt},
};
use off_events::UserId;
use off_kit::auth::Subject;
use uuid::Uuid;

/// Changes the password of a person who knows the old one, and ends all their sessions but `session`. A wrong old one
/// counts like a failed sign-in.
pub(crate) async fn change(
    app: &App,
    user_id: UserId,
    session: Uuid,
    old: String,
    new: String,
    visitor: &Visitor,
) -> Result<(), Refusal> {
    let account = take_attempt(app, user_id).await?;
    if !app.hasher.verify(old, Some(account.password_hash.clone())).await? {
        return Err(refuse(app, user_id, visitor).await?);
    }
    let hash = app.hasher.hash(new).await?;
    let now = app.clock.now();
    let mut tx = app.db.begin().await?;
    if !store::update_password(&mut tx, &account, app.attempt_limit, &hash, now).await? {
        drop(tx);
        return Err(refuse(app, user_id, visitor).await?);
    }
    let ended = store::end_other_sessions(&mut tx, user_id, session, "the password was changed", now).await?;
    events::put_revoked(app, &mut tx, &ended).await?;
    let detail = format!("{} other sessions ended", ended.len());
    let event = SecurityEvent::new(EventKind::PasswordChanged, Subject::Person(user_id), visitor, detail);
    store::insert_security_event(&mut tx, &event, now).await?;
    tx.commit().await?;
    app.outbox.wake();
    Ok(())
}

async fn take_attempt(app: &App, user_id: UserId) -> Result<Account, Refusal> {
    let now = app.clock.now();
    match store::take_attempt_of_user(&app.db, user_id, app.attempt_limit, now).await? {
        Attempt::Allowed(account) => Ok(account),
        Attempt::Refused(full_at) => Err(Refusal::TooManyAttempts(app.attempt_limit.seconds_to_wait(full_at, now))),
        Attempt::Unknown => Err(Refusal::WrongCredentials),
    }
}

async fn refuse(app: &App, user_id: UserId, visitor: &Visitor) -> sqlx::Result<Refusal> {
    let event = SecurityEvent::new(EventKind::PasswordChangeFailed, Subject::Person(user_id), visitor, "");
    let mut conn = app.db.acquire().await?;
    store::insert_security_event(&mut conn, &event, app.clock.now()).await?;
    Ok(Refusal::WrongCredentials)
}
