//! Accounts, and the limit of their sign-in attempts.

use crate::domain::AttemptLimit;
use chrono::{DateTime, Utc};
use off_events::UserId;
use sqlx::{PgConnection, PgPool};
use std::fmt;

/// An account whose password may be verified now.
pub(crate) struct Account {
    pub(crate) user_id: UserId,
    pub(crate) password_hash: String,
    pub(crate) is_operator: bool,
    /// When the password was set.
    pub(crate) changed_at: DateTime<Utc>,
}

/// Without the hash.
impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account").field("user_id", &self.user_id).finish_non_exhaustive()
    }
}

/// The result of an attempt to sign in.
#[derive(Debug)]
pub(crate) enum Attempt {
    /// Nobody has this e-mail address.
    Unknown,
    /// There were too many; all are available again at this time.
    Refused(Option<DateTime<Utc>>),
    Allowed(Account),
}

/// Takes an attempt from the limit of the account with this e-mail address. Replicas share the limit, and concurrent
/// attempts wait for each other's row lock, so that none is counted twice.
pub(crate) async fn take_attempt_of_email(
    db: &PgPool,
    email: &str,
    limit: AttemptLimit,
    now: DateTime<Utc>,
) -> sqlx::Result<Attempt> {
    let row = sqlx::query!(
        r#"WITH attempt AS (
               UPDATE auth.accounts
               SET attempts_full_at = greatest(attempts_full_at, $2) + make_interval(secs => $3)
               WHERE email = $1 AND (attempts_full_at IS NULL OR attempts_full_at <= $4)
               RETURNING user_id
           )
           SELECT user_id, password_hash, is_operator, changed_at, attempts_full_at,
                  EXISTS (SELECT FROM attempt) AS "is_allowed!"
           FROM auth.accounts WHERE email = $1"#,
        email,
        now,
        limit.interval.as_seconds_f64(),
        limit.latest_full_at(now),
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map_or(Attempt::Unknown, |row| {
        if row.is_allowed {
            let (user_id, password_hash) = (UserId(row.user_id), row.password_hash);
            Attempt::Allowed(Account {
                user_id,
                password_hash,
                is_operator: row.is_operator,
                changed_at: row.changed_at,
            })
        } else {
            Attempt::Refused(row.attempts_full_at)
        }
    }))
}

/// [`take_attempt_of_email`] for a person who is signed in.
pub(crate) async fn take_attempt_of_user(
    db: &PgPool,
    user_id: UserId,
    limit: AttemptLimit,
    now: DateTime<Utc>,
) -> sqlx::Result<Attempt> {
    let row = sqlx::query!(
        r#"WITH attempt AS (
               UPDATE auth.accounts
               SET attempts_full_at = greatest(attempts_full_at, $2) + make_interval(secs => $3)
               WHERE user_id = $1 AND (attempts_full_at IS NULL OR attempts_full_at <= $4)
               RETURNING user_id
           )
           SELECT password_hash, is_operator, changed_at, attempts_full_at,
                  EXISTS (SELECT FROM attempt) AS "is_allowed!"
           FROM auth.accounts WHERE user_id = $1"#,
        user_id.0,
        now,
        limit.interval.as_seconds_f64(),
        limit.latest_full_at(now),
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map_or(Attempt::Unknown, |row| {
        if row.is_allowed {
            let password_hash = row.password_hash;
            Attempt::Allowed(Account {
                user_id,
                password_hash,
                is_operator: row.is_operator,
                changed_at: row.changed_at,
            })
        } else {
            Attempt::Refused(row.attempts_full_at)
        }
    }))
}

/// Gives the attempt back, because the password was right, and stores a hash with today's parameters if there is one.
/// Locks the account. Returns false if the password was changed after it was verified.
pub(crate) async fn confirm_attempt(
    conn: &mut PgConnection,
    account: &Account,
    limit: AttemptLimit,
    new_hash: Option<&str>,
) -> sqlx::Result<bool> {
    let confirmed = sqlx::query!(
        "UPDATE auth.accounts
         SET attempts_full_at = attempts_full_at - make_interval(secs => $3),
             password_hash = coalesce($4, password_hash)
         WHERE user_id = $1 AND changed_at = $2",
        account.user_id.0,
        account.changed_at,
        limit.interval.as_seconds_f64(),
        new_hash,
    );
    Ok(confirmed.execute(conn).await?.rows_affected() == 1)
}

/// Stores another password, and gives the attempt back. Returns false if the password was changed after the old one was
/// verified.
pub(crate) async fn update_password(
    conn: &mut PgConnection,
    account: &Account,
    limit: AttemptLimit,
    password_hash: &str,
    now: DateTime<Utc>,
) -> sqlx::Result<bool> {
    let updated = sqlx::query!(
        "UPDATE auth.accounts
         SET password_hash = $4, changed_at = $5,
             attempts_full_at = attempts_full_at - make_interval(secs => $3)
         WHERE user_id = $1 AND changed_at = $2",
        account.user_id.0,
        account.changed_at,
        limit.interval.as_seconds_f64(),
        password_hash,
        now,
    );
    Ok(updated.execute(conn).await?.rows_affected() == 1)
}
