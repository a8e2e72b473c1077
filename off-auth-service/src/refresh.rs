//! Refreshing and ending sessions.

use crate::{
    App,
    domain::{EventKind, Judgement, RefreshToken, SecurityEvent, Session},
    events,
    refusal::Refusal,
    store,
    tokens::{self, TokenPair},
};
use metrics::counter;
use off_events::UserId;
use off_kit::{
    auth::{KeyDigest, Subject},
    http::RequestSource,
};
use sqlx::{PgConnection, Postgres, Transaction};
use tracing::warn;
use uuid::Uuid;

/// Why a session ended, as the table of sessions has it.
const REUSED: &str = "an old refresh token was used";
const SIGNED_OUT: &str = "signed out";
const ENDED_BY_PERSON: &str = "ended by the person";

/// The next tokens of a session. The same token may be used again within the grace period, and gets the same successor.
/// An older one ends the session, because it was stolen, or its successor was.
pub(crate) async fn refresh(app: &App, token: &str, source: &RequestSource) -> Result<TokenPair, Refusal> {
    let Some((mut tx, mut session, token)) = lock_session(app, token).await? else {
        return Err(count(Refusal::InvalidRefreshToken, "invalid"));
    };
    let now = app.clock.now();
    match session.judge(token.generation, now, app.session_limits.grace) {
        Judgement::Ended => Err(count(Refusal::InvalidRefreshToken, "ended")),
        Judgement::Repeated => {
            counter!("off_refreshes_total", "outcome" => "repeated").increment(1);
            Ok(tokens::issue_pair(app, &session)?)
        }
        Judgement::Reused => {
            end(app, &mut tx, &session, REUSED, EventKind::RefreshReused, source).await?;
            tx.commit().await?;
            app.outbox.wake();
            warn!("session {} ended: {REUSED}", session.id);
            Err(count(Refusal::InvalidRefreshToken, "reused"))
        }
        Judgement::Current => {
            session.idle_until = app.session_limits.idle_until(now, session.ends_at);
            session.generation += 1;
            // Signed before the commit: a client whose refresh failed must be able to repeat it at any time.
            let pair = tokens::issue_pair(app, &session)?;
            store::refresh_session(&mut tx, session.id, now, session.idle_until).await?;
            tx.commit().await?;
            counter!("off_refreshes_total", "outcome" => "refreshed").increment(1);
            Ok(pair)
        }
    }
}

fn count(refusal: Refusal, outcome: &'static str) -> Refusal {
    counter!("off_refreshes_total", "outcome" => outcome).increment(1);
    refusal
}

/// Ends the session of a refresh token of any generation. Without a session that lives, it does nothing.
pub(crate) async fn sign_out(app: &App, token: &str, source: &RequestSource) -> sqlx::Result<()> {
    let Some((mut tx, session, _)) = lock_session(app, token).await? else { return Ok(()) };
    if session.is_live(app.clock.now()) {
        end(app, &mut tx, &session, SIGNED_OUT, EventKind::Logout, source).await?;
        tx.commit().await?;
        app.outbox.wake();
    }
    Ok(())
}

/// Ends the session with this key. Without a session that lives, it does nothing.
pub(crate) async fn sign_out_key(app: &App, key: &(Uuid, KeyDigest), source: &RequestSource) -> sqlx::Result<()> {
    let mut tx = app.db.begin().await?;
    if !store::has_session_key(&mut tx, key).await? {
        return Ok(());
    }
    let session = store::lock_session(&mut tx, key.0).await?;
    if let Some(session) = session.filter(|session| session.is_live(app.clock.now())) {
        end(app, &mut tx, &session, SIGNED_OUT, EventKind::Logout, source).await?;
        tx.commit().await?;
        app.outbox.wake();
    }
    Ok(())
}

/// Ends a session of a person; returns whether they have such a session that lives.
pub(crate) async fn end_own(app: &App, user_id: UserId, id: Uuid, source: &RequestSource) -> sqlx::Result<bool> {
    let now = app.clock.now();
    let mut tx = app.db.begin().await?;
    if !store::end_own_session(&mut tx, user_id, id, ENDED_BY_PERSON, now).await? {
        return Ok(false);
    }
    events::put_revoked(app, &mut tx, &[id]).await?;
    let event = SecurityEvent::new(EventKind::SessionRevoked, Subject::Person(user_id), source, id.to_string());
    store::insert_security_event(&mut tx, &event, now).await?;
    tx.commit().await?;
    app.outbox.wake();
    Ok(true)
}

/// The session of a genuine token, locked in a transaction.
async fn lock_session(
    app: &App,
    token: &str,
) -> sqlx::Result<Option<(Transaction<'static, Postgres>, Session, RefreshToken)>> {
    let Some(token) = RefreshToken::parse(token) else { return Ok(None) };
    let mut tx = app.db.begin().await?;
    let session = store::lock_session(&mut tx, token.session).await?;
    // A forged token must not end the session of somebody else.
    let genuine = session.filter(|session| app.secrets.refresh.is_genuine(&token, &session.salt));
    Ok(genuine.map(|session| (tx, session, token)))
}

async fn end(
    app: &App,
    conn: &mut PgConnection,
    session: &Session,
    because: &str,
    kind: EventKind,
    source: &RequestSource,
) -> sqlx::Result<()> {
    let now = app.clock.now();
    store::end_session(conn, session.id, because, now).await?;
    events::put_revoked(app, conn, &[session.id]).await?;
    let event = SecurityEvent::new(kind, Subject::Person(session.user_id), source, session.id.to_string());
    store::insert_security_event(conn, &event, now).await
}
