//! Sessions of people.

use crate::domain::{OwnSession, Session};
use chrono::{DateTime, Utc};
use off_events::UserId;
use off_kit::auth::KeyDigest;
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

/// A session to insert, of generation 0.
#[derive(Debug)]
pub(crate) struct NewSession<'a> {
    pub(crate) id: Uuid,
    pub(crate) user_id: UserId,
    pub(crate) salt: &'a [u8],
    /// The digest of its key, if it has one.
    pub(crate) key_sha256: Option<&'a [u8]>,
    pub(crate) now: DateTime<Utc>,
    pub(crate) idle_until: DateTime<Utc>,
    pub(crate) ends_at: DateTime<Utc>,
    pub(crate) user_agent: &'a str,
    pub(crate) address: &'a str,
}

pub(crate) async fn insert_session(conn: &mut PgConnection, session: &NewSession<'_>) -> sqlx::Result<()> {
    sqlx::query!(
        "INSERT INTO auth.sessions
             (id, user_id, salt, key_sha256, created_at, refreshed_at, idle_until, ends_at, user_agent, address)
         VALUES ($1, $2, $3, $9, $4, $4, $5, $6, $7, $8)",
        session.id,
        session.user_id.0,
        session.salt,
        session.now,
        session.idle_until,
        session.ends_at,
        session.user_agent,
        session.address,
        session.key_sha256,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Ends all but the `kept` sessions of a person that were refreshed last; returns the ended ones.
pub(crate) async fn end_surplus_sessions(
    conn: &mut PgConnection,
    user_id: UserId,
    kept: i64,
    now: DateTime<Utc>,
) -> sqlx::Result<Vec<Uuid>> {
    let ended = sqlx::query_scalar!(
        "UPDATE auth.sessions
         SET revoked_at = $3, idle_until = least(idle_until, $3), revoked_because = 'too many sessions'
         WHERE id = ANY (ARRAY(
             SELECT id FROM auth.sessions WHERE user_id = $1 AND revoked_at IS NULL AND idle_until > $3
             ORDER BY refreshed_at DESC, id DESC OFFSET $2))
         RETURNING id",
        user_id.0,
        kept,
        now,
    );
    ended.fetch_all(conn).await
}

/// A session, whose row stays locked until the transaction ends, so that parallel refreshes happen one after another.
pub(crate) async fn lock_session(conn: &mut PgConnection, id: Uuid) -> sqlx::Result<Option<Session>> {
    let row = sqlx::query!(
        "SELECT user_id, is_operator, salt, generation, refreshed_at, idle_until, ends_at, revoked_at
         FROM auth.sessions JOIN auth.accounts USING (user_id) WHERE id = $1 FOR UPDATE OF sessions",
        id,
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| Session {
        id,
        user_id: UserId(row.user_id),
        is_operator: row.is_operator,
        salt: row.salt,
        generation: row.generation,
        refreshed_at: row.refreshed_at,
        idle_until: row.idle_until,
        ends_at: row.ends_at,
        is_revoked: row.revoked_at.is_some(),
    }))
}

/// Gives a locked session its next generation.
pub(crate) async fn refresh_session(
    conn: &mut PgConnection,
    id: Uuid,
    now: DateTime<Utc>,
    idle_until: DateTime<Utc>,
) -> sqlx::Result<()> {
    sqlx::query!(
        "UPDATE auth.sessions SET generation = generation + 1, refreshed_at = $2, idle_until = $3 WHERE id = $1",
        id,
        now,
        idle_until,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// The person of the session with this key, and whether they are an operator. The session stays alive until `idle_until`
/// or its end. `None` if no session that lives has this key.
pub(crate) async fn use_session_key(
    db: &PgPool,
    (id, sha256): &(Uuid, KeyDigest),
    now: DateTime<Utc>,
    idle_until: DateTime<Utc>,
) -> sqlx::Result<Option<(UserId, bool)>> {
    let used = sqlx::query!(
        "UPDATE auth.sessions SET refreshed_at = $3, idle_until = least($4, ends_at)
         FROM auth.accounts
         WHERE id = $1 AND key_sha256 = $2 AND revoked_at IS NULL AND idle_until > $3
             AND accounts.user_id = sessions.user_id
         RETURNING accounts.user_id, is_operator",
        id,
        &sha256[..],
        now,
        idle_until,
    );
    Ok(used.fetch_optional(db).await?.map(|row| (UserId(row.user_id), row.is_operator)))
}

/// Whether this is the key of this session, even of one that has ended.
pub(crate) async fn has_session_key(conn: &mut PgConnection, (id, sha256): &(Uuid, KeyDigest)) -> sqlx::Result<bool> {
    let found = sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT FROM auth.sessions WHERE id = $1 AND key_sha256 = $2) AS "found!""#,
        id,
        &sha256[..],
    );
    found.fetch_one(conn).await
}

/// Ends a session, unless it has ended; returns whether it did.
pub(crate) async fn end_session(
    conn: &mut PgConnection,
    id: Uuid,
    because: &str,
    now: DateTime<Utc>,
) -> sqlx::Result<bool> {
    let ended = sqlx::query!(
        "UPDATE auth.sessions SET revoked_at = $3, idle_until = least(idle_until, $3), revoked_because = $2
         WHERE id = $1 AND revoked_at IS NULL AND idle_until > $3",
        id,
        because,
        now,
    );
    Ok(ended.execute(conn).await?.rows_affected() == 1)
}

/// [`end_session`], only for a session of this person.
pub(crate) async fn end_own_session(
    conn: &mut PgConnection,
    user_id: UserId,
    id: Uuid,
    because: &str,
    now: DateTime<Utc>,
) -> sqlx::Result<bool> {
    let ended = sqlx::query!(
        "UPDATE auth.sessions SET revoked_at = $4, idle_until = least(idle_until, $4), revoked_because = $3
         WHERE id = $1 AND user_id = $2 AND revoked_at IS NULL AND idle_until > $4",
        id,
        user_id.0,
        because,
        now,
    );
    Ok(ended.execute(conn).await?.rows_affected() == 1)
}

/// Ends all sessions of a person but one; returns the ended ones.
pub(crate) async fn end_other_sessions(
    conn: &mut PgConnection,
    user_id: UserId,
    kept: Uuid,
    because: &str,
    now: DateTime<Utc>,
) -> sqlx::Result<Vec<Uuid>> {
    let ended = sqlx::query_scalar!(
        "UPDATE auth.sessions SET revoked_at = $4, idle_until = least(idle_until, $4), revoked_because = $3
         WHERE user_id = $1 AND id <> $2 AND revoked_at IS NULL AND idle_until > $4
         RETURNING id",
        user_id.0,
        kept,
        because,
        now,
    );
    ended.fetch_all(conn).await
}

/// The sessions of a person that have not ended, at most `limit`; the one that was refreshed last first.
pub(crate) async fn list_sessions(
    db: &PgPool,
    user_id: UserId,
    limit: i64,
    now: DateTime<Utc>,
) -> sqlx::Result<Vec<OwnSession>> {
    let rows = sqlx::query!(
        "SELECT id, created_at, refreshed_at, idle_until, ends_at, user_agent, address
         FROM auth.sessions WHERE user_id = $1 AND revoked_at IS NULL AND idle_until > $3
         ORDER BY refreshed_at DESC, id DESC LIMIT $2",
        user_id.0,
        limit,
        now,
    )
    .fetch_all(db)
    .await?;
    let sessions = rows.into_iter().map(|row| OwnSession {
        id: row.id,
        created_at: row.created_at,
        refreshed_at: row.refreshed_at,
        idle_until: row.idle_until,
        ends_at: row.ends_at,
        user_agent: row.user_agent,
        address: row.address,
    });
    Ok(sessions.collect())
}

/// Deletes at most `limit` sessions that ended before `before`; returns their number.
pub(crate) async fn delete_ended_sessions(db: &PgPool, before: DateTime<Utc>, limit: i64) -> sqlx::Result<u64> {
    let deleted = sqlx::query!(
        "DELETE FROM auth.sessions WHERE id = ANY (ARRAY(
             SELECT id FROM auth.sessions WHERE idle_until < $1 ORDER BY idle_until LIMIT $2 FOR UPDATE SKIP LOCKED))",
        before,
        limit,
    );
    Ok(deleted.execute(db).await?.rows_affected())
}
