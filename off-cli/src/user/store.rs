//! The statements of `off user`.

use chrono::{DateTime, Utc};
use off_events::{Revoked, participants};
use off_kit::{
    auth::{LEEWAY, TOKEN_LIFETIME},
    outbox::{self, Entry},
};
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

/// A person to insert.
pub(super) struct NewPerson<'a> {
    pub(super) first_name: &'a str,
    pub(super) last_name: &'a str,
    pub(super) email: &'a str,
    pub(super) password_hash: &'a str,
    pub(super) is_operator: bool,
}

/// A person who is registered.
pub(super) struct Person {
    pub(super) id: i64,
    pub(super) registered_at: DateTime<Utc>,
    pub(super) is_operator: bool,
}

/// The person who signs in with this e-mail address.
pub(super) async fn find_registered(db: &PgPool, email: &str) -> sqlx::Result<Option<Person>> {
    let registered = sqlx::query_as!(
        Person,
        "SELECT user_id AS id, registered_at, is_operator
         FROM auth.accounts JOIN users.users ON users.id = accounts.user_id WHERE accounts.email = $1",
        email,
    );
    registered.fetch_optional(db).await
}

/// Makes a person an operator or an ordinary person, and ends all their sessions; returns the number of these. The
/// security log records it.
pub(super) async fn set_operator(db: &PgPool, id: i64, is_operator: bool, now: DateTime<Utc>) -> sqlx::Result<usize> {
    let mut tx = db.begin().await?;
    // Waits for a sign-in that has confirmed the account, so that the next statement sees its session. A later sign-in
    // waits for this one, and reads what the person is now.
    sqlx::query!("UPDATE auth.accounts SET is_operator = $2 WHERE user_id = $1", id, is_operator)
        .execute(&mut *tx)
        .await?;
    let kind = if is_operator { "operator_added" } else { "operator_removed" };
    let ended = end_sessions(&mut tx, id, kind, now).await?;
    sqlx::query!(
        "INSERT INTO auth.security_events (at, kind, subject, address, detail)
         VALUES ($1, $2, 'user:' || $3::bigint, '', 'off user')",
        now,
        kind,
        id,
    )
    .execute(&mut *tx)
    .await?;
    tx.commit().await?;
    Ok(ended)
}

/// Ends all sessions of a person, and stores that their access tokens are not valid any more, which the auth service
/// publishes; returns their number.
async fn end_sessions(conn: &mut PgConnection, id: i64, because: &str, now: DateTime<Utc>) -> sqlx::Result<usize> {
    let ended: Vec<Uuid> = sqlx::query_scalar!(
        "UPDATE auth.sessions SET revoked_at = $3, idle_until = least(idle_until, $3), revoked_because = $2
         WHERE user_id = $1 AND revoked_at IS NULL AND idle_until > $3
         RETURNING id",
        id,
        because,
        now,
    )
    .fetch_all(&mut *conn)
    .await?;
    let until = now + TOKEN_LIFETIME + LEEWAY;
    let events: Vec<Revoked> = ended.into_iter().map(|sid| Revoked { sid, until }).collect();
    let entries: Vec<_> = events.iter().map(|event| Entry { event, occurred_at: now, traceparent: None }).collect();
    outbox::put_for(participants::AUTH.name, conn, &entries).await?;
    Ok(entries.len())
}

/// Inserts a person without devices, with their account; returns the id.
pub(super) async fn insert_person(db: &PgPool, person: &NewPerson<'_>, now: DateTime<Utc>) -> sqlx::Result<i64> {
    let mut tx = db.begin().await?;
    let id = sqlx::query_scalar!(
        "INSERT INTO users.users (first_name, last_name, email, registered_at) VALUES ($1, $2, $3, $4) RETURNING id",
        person.first_name,
        person.last_name,
        person.email,
        now,
    )
    .fetch_one(&mut *tx)
    .await?;
    sqlx::query!(
        "INSERT INTO auth.accounts (user_id, email, password_hash, is_operator, changed_at)
         VALUES ($1, $2, $3, $4, $5)",
        id,
        person.email,
        person.password_hash,
        person.is_operator,
        now,
    )
    .execute(&mut *tx)
    .await?;
    sqlx::query!(
        "INSERT INTO auth.security_events (at, kind, subject, address, detail)
         VALUES ($1, $2, 'user:' || $3::bigint, '', 'off user')",
        now,
        if person.is_operator { "operator_added" } else { "person_added" },
        id,
    )
    .execute(&mut *tx)
    .await?;
    tx.commit().await?;
    Ok(id)
}
