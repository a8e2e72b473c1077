//! Keys of devices. Whose device it is, is decided in each statement.

use crate::domain::DeviceKey;
use chrono::{DateTime, TimeDelta, Utc};
use off_events::SsdId;
use off_kit::auth::RowAccess;
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

/// The maximum number of keys of a device, so that one can be replaced without a gap.
const MAX_KEYS: i64 = 2;

/// How exact `last_used_at` is.
const USE_PRECISION: TimeDelta = TimeDelta::minutes(1);

/// A key to insert.
#[derive(Debug)]
pub(crate) struct NewDeviceKey<'a> {
    pub(crate) id: Uuid,
    pub(crate) ssd_id: SsdId,
    pub(crate) sha256: &'a [u8],
    pub(crate) label: &'a str,
    pub(crate) created_by: &'a str,
    /// The key with which the device makes it.
    pub(crate) made_with: Option<Uuid>,
}

/// Why a key was not inserted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotInserted {
    /// The device does not exist, or the caller may not touch it.
    NoDevice,
    TooManyKeys,
    /// The key with which the device makes it was revoked.
    Revoked,
}

/// Lets one call at a time make or revoke keys of a device, until the transaction ends. Otherwise a key could be made
/// with one that is just being revoked, and survive it.
async fn lock_keys(conn: &mut PgConnection, ssd_id: SsdId) -> sqlx::Result<()> {
    sqlx::query!("SELECT pg_advisory_xact_lock(hashtextextended('keys of device ' || $1::bigint, 0))", ssd_id.0)
        .execute(conn)
        .await?;
    Ok(())
}

/// Inserts a key of a device.
pub(crate) async fn insert_device_key(
    conn: &mut PgConnection,
    access: RowAccess,
    key: &NewDeviceKey<'_>,
    now: DateTime<Utc>,
) -> sqlx::Result<Result<(), NotInserted>> {
    lock_keys(&mut *conn, key.ssd_id).await?;
    let (user_id, device, is_simulated) = access.columns();
    let inserted = sqlx::query!(
        r#"WITH device AS (
               SELECT id FROM users.devices
               WHERE id = $1 AND ($6::bigint IS NULL OR user_id = $6) AND ($7::bigint IS NULL OR id = $7)
                     AND ($8::bool IS NULL OR is_simulated = $8)
           ), maker AS (
               SELECT FROM auth.device_keys WHERE id = $11 AND ssd_id = $1 AND revoked_at IS NULL
           ), inserted AS (
               INSERT INTO auth.device_keys (id, ssd_id, sha256, label, created_at, created_by, made_with)
               SELECT $2, id, $3, $4, $9, $5, $11 FROM device
               WHERE (SELECT count(*) FROM auth.device_keys WHERE ssd_id = $1 AND revoked_at IS NULL) < $10
                     AND ($11::uuid IS NULL OR EXISTS (SELECT FROM maker))
               RETURNING id
           )
           SELECT EXISTS (SELECT FROM device) AS "is_found!", EXISTS (SELECT FROM inserted) AS "is_inserted!",
                  $11::uuid IS NOT NULL AND NOT EXISTS (SELECT FROM maker) AS "is_revoked!""#,
        key.ssd_id.0,
        key.id,
        key.sha256,
        key.label,
        key.created_by,
        user_id,
        device,
        is_simulated,
        now,
        MAX_KEYS,
        key.made_with,
    )
    .fetch_one(conn)
    .await?;
    Ok(match inserted {
        inserted if inserted.is_inserted => Ok(()),
        inserted if !inserted.is_found => Err(NotInserted::NoDevice),
        inserted if inserted.is_revoked => Err(NotInserted::Revoked),
        _ => Err(NotInserted::TooManyKeys),
    })
}

/// The keys of a device that were not revoked, the oldest first; `None` if the caller has no such device.
pub(crate) async fn list_device_keys(
    db: &PgPool,
    access: RowAccess,
    ssd_id: SsdId,
) -> sqlx::Result<Option<Vec<DeviceKey>>> {
    let (user_id, device, is_simulated) = access.columns();
    let rows = sqlx::query!(
        r#"SELECT keys.id AS "id?", label AS "label?", created_at AS "created_at?", created_by AS "created_by?",
                  made_with, last_used_at
           FROM users.devices
           LEFT JOIN auth.device_keys AS keys ON keys.ssd_id = devices.id AND keys.revoked_at IS NULL
           WHERE devices.id = $1 AND ($2::bigint IS NULL OR user_id = $2) AND ($3::bigint IS NULL OR devices.id = $3)
                 AND ($4::bool IS NULL OR is_simulated = $4)
           ORDER BY created_at, keys.id"#,
        ssd_id.0,
        user_id,
        device,
        is_simulated,
    )
    .fetch_all(db)
    .await?;
    if rows.is_empty() {
        return Ok(None);
    }
    // A device without a key is one row without a key.
    let keys = rows.into_iter().filter_map(|row| {
        Some(DeviceKey {
            id: row.id?,
            label: row.label?,
            created_at: row.created_at?,
            created_by: row.created_by?,
            made_with: row.made_with,
            last_used_at: row.last_used_at,
        })
    });
    Ok(Some(keys.collect()))
}

/// What ends together with a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    Key,
    /// Also the keys that were made with it, those that were made with these, and so on.
    Descendants,
}

/// Revokes a key of a device that the caller has; returns the keys that ended. Descendants end also if the key itself
/// was revoked before.
pub(crate) async fn revoke_device_keys(
    conn: &mut PgConnection,
    access: RowAccess,
    ssd_id: SsdId,
    id: Uuid,
    extent: Extent,
    now: DateTime<Utc>,
) -> sqlx::Result<Vec<Uuid>> {
    lock_keys(&mut *conn, ssd_id).await?;
    let (user_id, device, is_simulated) = access.columns();
    let revoked = sqlx::query_scalar!(
        "WITH RECURSIVE ending AS (
             SELECT keys.id FROM auth.device_keys AS keys JOIN users.devices ON devices.id = keys.ssd_id
             WHERE keys.id = $2 AND keys.ssd_id = $1
                   AND ($3::bigint IS NULL OR user_id = $3) AND ($4::bigint IS NULL OR devices.id = $4)
                   AND ($5::bool IS NULL OR is_simulated = $5)
             UNION
             SELECT keys.id FROM ending JOIN auth.device_keys AS keys ON keys.made_with = ending.id WHERE $7::bool
         )
         UPDATE auth.device_keys SET revoked_at = $6
         WHERE id IN (SELECT id FROM ending) AND revoked_at IS NULL
         RETURNING id",
        ssd_id.0,
        id,
        user_id,
        device,
        is_simulated,
        now,
        extent == Extent::Descendants,
    );
    revoked.fetch_all(conn).await
}

/// What verifies a key.
#[derive(Debug)]
pub(crate) struct StoredDeviceKey {
    pub(crate) sha256: Vec<u8>,
    last_used_at: Option<DateTime<Utc>>,
}

/// A key of a device that was not revoked.
pub(crate) async fn find_device_key(db: &PgPool, ssd_id: SsdId, id: Uuid) -> sqlx::Result<Option<StoredDeviceKey>> {
    let key = sqlx::query_as!(
        StoredDeviceKey,
        "SELECT sha256, last_used_at FROM auth.device_keys WHERE id = $1 AND ssd_id = $2 AND revoked_at IS NULL",
        id,
        ssd_id.0,
    );
    key.fetch_optional(db).await
}

/// Records that a key was used, unless that was recorded less than a minute ago.
pub(crate) async fn record_use(db: &PgPool, id: Uuid, key: &StoredDeviceKey, now: DateTime<Utc>) -> sqlx::Result<()> {
    if key.last_used_at.is_some_and(|last| now - last < USE_PRECISION) {
        return Ok(());
    }
    sqlx::query!(
        "UPDATE auth.device_keys SET last_used_at = $2 WHERE id = $1 AND (last_used_at IS NULL OR last_used_at < $3)",
        id,
        now,
        now - USE_PRECISION,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Deletes at most `limit` keys that were revoked before `before`; returns their number. Keeps a key that was made with
/// one that is stored, and with which one was made that is stored: it connects the two.
pub(crate) async fn delete_revoked_device_keys(db: &PgPool, before: DateTime<Utc>, limit: i64) -> sqlx::Result<u64> {
    let deleted = sqlx::query!(
        "DELETE FROM auth.device_keys WHERE id = ANY (ARRAY(
             SELECT id FROM auth.device_keys AS keys
             WHERE revoked_at < $1
                   AND (made_with IS NULL
                        OR NOT EXISTS (SELECT FROM auth.device_keys AS made WHERE made.made_with = keys.id))
             ORDER BY revoked_at LIMIT $2
             FOR UPDATE SKIP LOCKED))",
        before,
        limit,
    );
    Ok(deleted.execute(db).await?.rows_affected())
}
