//! The limits of sign-in attempts.

use super::Account;
use crate::domain::{AttemptKey, AttemptLimits, FullAt};
use chrono::{DateTime, TimeDelta, Utc};
use off_events::UserId;
use sqlx::{PgConnection, PgPool};

/// The result of an attempt to sign in.
#[derive(Debug)]
pub(crate) enum Attempt {
    /// There were too many; the next one is allowed after this time.
    Refused(TimeDelta),
    /// The account with the e-mail address; `None` if nobody has it.
    Allowed(Option<Account>),
}

/// Takes an attempt with an e-mail address from both of its limits, or from none if one is exhausted. It does the same
/// whether or not an account has the address. Replicas share the limits, and concurrent attempts wait for each other's
/// row locks, so that each is counted. (Then the limit of the network may count one that the other limit refuses.) A
/// refused attempt usually writes nothing.
pub(crate) async fn take_attempt(
    db: &PgPool,
    email: &str,
    key: &AttemptKey,
    limits: AttemptLimits,
    now: DateTime<Utc>,
) -> sqlx::Result<Attempt> {
    // Postgres does not take a NUL character, which is in no address.
    let email = Some(email).filter(|email| !email.contains('\0'));
    let row = sqlx::query!(
        r#"WITH before AS (
               SELECT (SELECT full_at FROM auth.sign_in_attempts WHERE email_sha256 = $1 AND network = $2) AS network,
                      (SELECT full_at FROM auth.sign_in_attempts WHERE email_sha256 = $1 AND network = '') AS all_networks
           ), of_network AS (
               INSERT INTO auth.sign_in_attempts AS attempts (email_sha256, network, full_at)
               SELECT $1, $2, $4::timestamptz + make_interval(secs => $5) FROM before
               WHERE (network IS NULL OR network <= $6) AND (all_networks IS NULL OR all_networks <= $8)
               ON CONFLICT (email_sha256, network) DO UPDATE
               SET full_at = greatest(attempts.full_at, $4) + make_interval(secs => $5)
               WHERE attempts.full_at <= $6
               RETURNING email_sha256
           ), of_all AS (
               INSERT INTO auth.sign_in_attempts AS attempts (email_sha256, network, full_at)
               SELECT email_sha256, '', $4::timestamptz + make_interval(secs => $7) FROM of_network
               ON CONFLICT (email_sha256, network) DO UPDATE
               SET full_at = greatest(attempts.full_at, $4) + make_interval(secs => $7)
               WHERE attempts.full_at <= $8
               RETURNING email_sha256
           )
           SELECT before.network AS "network?", before.all_networks AS "all_networks?",
                  EXISTS (SELECT FROM of_network) AS "has_network_one!", EXISTS (SELECT FROM of_all) AS "has_both!",
                  user_id AS "user_id?", password_hash AS "password_hash?", is_operator AS "is_operator?",
                  changed_at AS "changed_at?"
           FROM before LEFT JOIN auth.accounts ON email = $3"#,
        key.email_sha256,
        key.network,
        email,
        now,
        limits.network.interval.as_seconds_f64(),
        limits.network.latest_full_at(now),
        limits.all.interval.as_seconds_f64(),
        limits.all.latest_full_at(now),
    )
    .fetch_one(db)
    .await?;
    if row.has_both {
        let account = row.user_id.zip(row.password_hash).zip(row.changed_at);
        return Ok(Attempt::Allowed(account.map(|((user_id, password_hash), changed_at)| Account {
            user_id: UserId(user_id),
            password_hash,
            changed_at,
        })));
    }
    let full_at = FullAt { network: row.network, all: row.all_networks };
    // If concurrent attempts took the last ones just now, the row does not show it.
    let refusing = if row.has_network_one { limits.all } else { limits.network };
    Ok(Attempt::Refused(limits.time_to_wait(full_at, now).unwrap_or(refusing.interval)))
}

/// Gives an attempt back to both limits. It locks their rows in the order in which an attempt does, so that nobody waits
/// in a circle: the one of the network first.
pub(crate) async fn give_back_attempt(
    conn: &mut PgConnection,
    key: &AttemptKey,
    limits: AttemptLimits,
) -> sqlx::Result<()> {
    sqlx::query!(
        "WITH taken AS (
             SELECT email_sha256, network FROM auth.sign_in_attempts
             WHERE email_sha256 = $1 AND network IN ($2, '') ORDER BY network DESC FOR UPDATE
         )
         UPDATE auth.sign_in_attempts AS attempts
         SET full_at = full_at - make_interval(secs => CASE WHEN attempts.network = '' THEN $4::float8 ELSE $3::float8 END)
         FROM taken WHERE attempts.email_sha256 = taken.email_sha256 AND attempts.network = taken.network",
        key.email_sha256,
        key.network,
        limits.network.interval.as_seconds_f64(),
        limits.all.interval.as_seconds_f64(),
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Deletes at most `limit` rows all of whose attempts were available again before `before`; returns their number.
pub(crate) async fn delete_past_attempts(db: &PgPool, before: DateTime<Utc>, limit: i64) -> sqlx::Result<u64> {
    let deleted = sqlx::query!(
        "WITH past AS (
             SELECT email_sha256, network FROM auth.sign_in_attempts WHERE full_at < $1 ORDER BY full_at LIMIT $2
             FOR UPDATE SKIP LOCKED
         )
         DELETE FROM auth.sign_in_attempts AS attempts USING past
         WHERE attempts.email_sha256 = past.email_sha256 AND attempts.network = past.network",
        before,
        limit,
    );
    Ok(deleted.execute(db).await?.rows_affected())
}
