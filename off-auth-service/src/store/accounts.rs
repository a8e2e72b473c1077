//! Accounts, and the limits of their sign-in attempts.

use crate::domain::{AttemptLimits, FullAt};
use chrono::{DateTime, TimeDelta, Utc};
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
    /// The network of the attempt.
    network: String,
}

/// Without the hash.
impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account").field("user_id", &self.user_id).finish_non_exhaustive()
    }
}

/// Whose attempt it is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Whose<'a> {
    /// Of the person with this e-mail address.
    Email(&'a str),
    Person(UserId),
}

impl Whose<'_> {
    /// The values to which a statement compares the e-mail address and the id of an account; exactly one is not NULL.
    fn columns(&self) -> (Option<&str>, Option<i64>) {
        match self {
            Self::Email(email) => (Some(email), None),
            Self::Person(id) => (None, Some(id.0)),
        }
    }
}

/// The result of an attempt to sign in.
#[derive(Debug)]
pub(crate) enum Attempt {
    /// There is no such account.
    Unknown,
    /// There were too many; the next one is allowed after this time.
    Refused(TimeDelta),
    Allowed(Account),
}

/// Takes an attempt from both limits of an account, or from none if one is exhausted. Replicas share the limits, and
/// concurrent attempts wait for each other's row locks, so that each is counted. (Then the limit of the network may
/// count one that the limit of the account refuses.) A refused attempt usually writes nothing, so that it takes no
/// longer than one with an unknown e-mail address.
pub(crate) async fn take_attempt(
    db: &PgPool,
    whose: Whose<'_>,
    network: String,
    limits: AttemptLimits,
    now: DateTime<Utc>,
) -> sqlx::Result<Attempt> {
    let (email, user_id) = whose.columns();
    let row = sqlx::query!(
        r#"WITH account AS (
               SELECT accounts.user_id, password_hash, is_operator, changed_at, attempts_full_at, full_at
               FROM auth.accounts
               LEFT JOIN auth.sign_in_attempts AS attempts
                   ON attempts.user_id = accounts.user_id AND attempts.network = $3
               WHERE email = $1 OR accounts.user_id = $2
           ), of_network AS (
               INSERT INTO auth.sign_in_attempts AS attempts (user_id, network, full_at)
               SELECT user_id, $3, $4::timestamptz + make_interval(secs => $5) FROM account
               WHERE (full_at IS NULL OR full_at <= $6) AND (attempts_full_at IS NULL OR attempts_full_at <= $8)
               ON CONFLICT (user_id, network) DO UPDATE
               SET full_at = greatest(attempts.full_at, $4) + make_interval(secs => $5)
               WHERE attempts.full_at <= $6
               RETURNING user_id
           ), of_account AS (
               UPDATE auth.accounts
               SET attempts_full_at = greatest(attempts_full_at, $4) + make_interval(secs => $7)
               WHERE user_id IN (SELECT user_id FROM of_network)
                     AND (attempts_full_at IS NULL OR attempts_full_at <= $8)
               RETURNING user_id
           )
           SELECT user_id, password_hash, is_operator, changed_at, attempts_full_at, full_at AS "full_at?",
                  EXISTS (SELECT FROM of_network) AS "has_network_one!",
                  EXISTS (SELECT FROM of_account) AS "has_account_one!"
           FROM account"#,
        email,
        user_id,
        network,
        now,
        limits.network.interval.as_seconds_f64(),
        limits.network.latest_full_at(now),
        limits.account.interval.as_seconds_f64(),
        limits.account.latest_full_at(now),
    )
    .fetch_optional(db)
    .await?;
    let Some(row) = row else { return Ok(Attempt::Unknown) };
    if row.has_account_one {
        return Ok(Attempt::Allowed(Account {
            user_id: UserId(row.user_id),
            password_hash: row.password_hash,
            is_operator: row.is_operator,
            changed_at: row.changed_at,
            network,
        }));
    }
    let full_at = FullAt { network: row.full_at, account: row.attempts_full_at };
    // If concurrent attempts took the last ones just now, the row does not show it.
    let refusing = if row.has_network_one { limits.account } else { limits.network };
    Ok(Attempt::Refused(limits.time_to_wait(full_at, now).unwrap_or(refusing.interval)))
}

/// Gives the attempt back to both limits, because the password was right, and stores a hash with today's parameters if
/// there is one. Locks the account. Returns false if the password was changed after it was verified.
pub(crate) async fn confirm_attempt(
    conn: &mut PgConnection,
    account: &Account,
    limits: AttemptLimits,
    new_hash: Option<&str>,
) -> sqlx::Result<bool> {
    give_back(&mut *conn, account, limits).await?;
    let confirmed = sqlx::query!(
        "UPDATE auth.accounts
         SET attempts_full_at = attempts_full_at - make_interval(secs => $3),
             password_hash = coalesce($4, password_hash)
         WHERE user_id = $1 AND changed_at = $2",
        account.user_id.0,
        account.changed_at,
        limits.account.interval.as_seconds_f64(),
        new_hash,
    );
    Ok(confirmed.execute(conn).await?.rows_affected() == 1)
}

/// Stores another password, and gives the attempt back to both limits. Returns false if the password was changed after
/// the old one was verified.
pub(crate) async fn update_password(
    conn: &mut PgConnection,
    account: &Account,
    limits: AttemptLimits,
    password_hash: &str,
    now: DateTime<Utc>,
) -> sqlx::Result<bool> {
    give_back(&mut *conn, account, limits).await?;
    let updated = sqlx::query!(
        "UPDATE auth.accounts
         SET password_hash = $4, changed_at = $5,
             attempts_full_at = attempts_full_at - make_interval(secs => $3)
         WHERE user_id = $1 AND changed_at = $2",
        account.user_id.0,
        account.changed_at,
        limits.account.interval.as_seconds_f64(),
        password_hash,
        now,
    );
    Ok(updated.execute(conn).await?.rows_affected() == 1)
}

/// Gives an attempt back to the limit of its network. An attempt locks the row of the network before that of the
/// account, too, so that nobody waits in a circle.
async fn give_back(conn: &mut PgConnection, account: &Account, limits: AttemptLimits) -> sqlx::Result<()> {
    sqlx::query!(
        "UPDATE auth.sign_in_attempts SET full_at = full_at - make_interval(secs => $3)
         WHERE user_id = $1 AND network = $2",
        account.user_id.0,
        account.network,
        limits.network.interval.as_seconds_f64(),
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Deletes at most `limit` rows of networks all of whose attempts were available again before `before`; returns their
/// number.
pub(crate) async fn delete_past_attempts(db: &PgPool, before: DateTime<Utc>, limit: i64) -> sqlx::Result<u64> {
    let deleted = sqlx::query!(
        "WITH past AS (
             SELECT user_id, network FROM auth.sign_in_attempts WHERE full_at < $1 ORDER BY full_at LIMIT $2
             FOR UPDATE SKIP LOCKED
         )
         DELETE FROM auth.sign_in_attempts AS attempts USING past
         WHERE attempts.user_id = past.user_id AND attempts.network = past.network",
        before,
        limit,
    );
    Ok(deleted.execute(db).await?.rows_affected())
}
