//! Signing keys, their private halves sealed.

use crate::domain::SigningPeriod;
use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgExecutor, PgPool};
use std::fmt;

/// A key as it is stored.
pub(crate) struct StoredKey {
    pub(crate) kid: String,
    pub(crate) public_jwk: serde_json::Value,
    pub(crate) private_sealed: Vec<u8>,
    pub(crate) period: SigningPeriod,
}

/// Without the private half, although it is sealed.
impl fmt::Debug for StoredKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredKey").field("kid", &self.kid).field("period", &self.period).finish_non_exhaustive()
    }
}

/// Lets one replica at a time make or retire keys, until the transaction ends.
pub(crate) async fn lock_signing_keys(conn: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::query!("SELECT pg_advisory_xact_lock(hashtextextended('signing keys', 0))").execute(conn).await?;
    Ok(())
}

/// The keys that are not retired, the newest first.
pub(crate) async fn list_signing_keys(db: impl PgExecutor<'_>, now: DateTime<Utc>) -> sqlx::Result<Vec<StoredKey>> {
    let rows = sqlx::query!(
        "SELECT kid, public_jwk, private_sealed, created_at, signs_from, signs_until, retires_at
         FROM auth.signing_keys WHERE retires_at > $1 ORDER BY created_at DESC, kid",
        now,
    )
    .fetch_all(db)
    .await?;
    let keys = rows.into_iter().map(|row| StoredKey {
        kid: row.kid,
        public_jwk: row.public_jwk,
        private_sealed: row.private_sealed,
        period: SigningPeriod {
            created_at: row.created_at,
            signs_from: row.signs_from,
            signs_until: row.signs_until,
            retires_at: row.retires_at,
        },
    });
    Ok(keys.collect())
}

pub(crate) async fn insert_signing_key(conn: &mut PgConnection, key: &StoredKey) -> sqlx::Result<()> {
    sqlx::query!(
        "INSERT INTO auth.signing_keys
             (kid, public_jwk, private_sealed, created_at, signs_from, signs_until, retires_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
        key.kid,
        key.public_jwk,
        key.private_sealed,
        key.period.created_at,
        key.period.signs_from,
        key.period.signs_until,
        key.period.retires_at,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Lets a key sign at other times.
pub(crate) async fn move_signing_key(conn: &mut PgConnection, kid: &str, period: SigningPeriod) -> sqlx::Result<()> {
    sqlx::query!(
        "UPDATE auth.signing_keys SET signs_from = $2, signs_until = $3, retires_at = $4 WHERE kid = $1",
        kid,
        period.signs_from,
        period.signs_until,
        period.retires_at,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Retires a key now; returns whether there is such a key that is not retired.
pub(crate) async fn retire_signing_key(conn: &mut PgConnection, kid: &str, now: DateTime<Utc>) -> sqlx::Result<bool> {
    let retired = sqlx::query!(
        "UPDATE auth.signing_keys SET retires_at = $2, signs_until = least(signs_until, $2)
         WHERE kid = $1 AND retires_at > $2",
        kid,
        now,
    );
    Ok(retired.execute(conn).await?.rows_affected() == 1)
}

/// Deletes at most `limit` keys that were retired before `before`; returns their number.
pub(crate) async fn delete_retired_signing_keys(db: &PgPool, before: DateTime<Utc>, limit: i64) -> sqlx::Result<u64> {
    let deleted = sqlx::query!(
        "DELETE FROM auth.signing_keys WHERE kid = ANY (ARRAY(
             SELECT kid FROM auth.signing_keys WHERE retires_at < $1 ORDER BY retires_at LIMIT $2
             FOR UPDATE SKIP LOCKED))",
        before,
        limit,
    );
    Ok(deleted.execute(db).await?.rows_affected())
}
