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
}

/// Why a key was not inserted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotInserted {
    /// The device does not exist, or the caller may not touch it.
    NoDevice,
    TooManyKeys,
}

/// Inserts a key of a device. Concurrent calls for one device happen one after another.
pub(crate) async fn insert_device_key(
    conn: &mut PgConnection,
    access: RowAccess,
    key: &NewDeviceKey<'_>,
    now: DateTime<Utc>,
) -> sqlx::Result<Result<(), NotInserted>> {
    sqlx::query!("SELECT pg_advisory_xact_lock(hashtextextended('keys of device ' || $1::bigint, 0))", key.ssd_id.0)
        .execute(&mut *conn)
        .await?;
    let (user_id, device, is_simulated) = access.columns();
    let inserted = sqlx::query!(
        r#"WITH device AS (
               SELECT id FROM users.devices
               WHERE id = $1 AND ($6::bigint IS NULL OR user_id = $6) AND ($7::bigint IS NULL OR id = $7)
                     AND ($8::bool IS NULL OR is_simulated = $8)
           ), inserted AS (
               INSERT INTO auth.device_keys (id, ssd_id, sha256, label, created_at, created_by)
               SELECT $2, id, $3, $4, $9, $5 FROM device
               WHERE (SELECT count(*) FROM auth.device_keys WHERE ssd_id = $1 AND revoked_at IS NULL) < $10
               RETURNING id
           )
           SELECT EXISTS (SELECT FROM device) AS "is_found!", EXISTS (SELECT FROM inserted) AS "is_inserted!""#,
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
    )
    .fetch_one(conn)
    .await?;
    Ok(match (inserted.is_found, inserted.is_inserted) {
        (false, _) => Err(NotInserted::NoDevice),
        (true, false) => Err(NotInserted::TooManyKeys),
        (true, true) => Ok(()),
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
                  last_used_at
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
            last_used_at: row.last_used_at,
        })
    });
    Ok(Some(keys.collect()))
}

/// Revokes a key of a device; returns whether the caller has such a key that was not revoked.
pub(crate) async fn revoke_device_key(
    conn: &mut PgConnection,
    access: RowAccess,
    ssd_id: SsdId,
    id: Uuid,
    now: DateTime<Utc>,
) -> sqlx::Result<bool> {
    let (user_id, device, is_simulated) = access.columns();
    let revoked = sqlx::query!(
        "UPDATE auth.device_keys AS keys SET revoked_at = $6
         FROM users.devices
         WHERE keys.id = $2 AND keys.ssd_id = $1 AND keys.revoked_at IS NULL AND devices.id = keys.ssd_id
               AND ($3::bigint IS NULL OR user_id = $3) AND ($4::bigint IS NULL OR devices.id = $4)
               AND ($5::bool IS NULL OR is_simulated = $5)",
        ssd_id.0,
        id,
        user_id,
        device,
        is_simulated,
        now,
    );
    Ok(revoked.execute(conn).await?.rows_affected() == 1)
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

/// Deletes at most `limit` keys that were revoked before `before`; returns their number.
pub(crate) async fn delete_revoked_device_keys(db: &PgPool, before: DateTime<Utc>, limit: i64) -> sqlx::Result<u64> {
    let deleted = sqlx::query!(
        "DELETE FROM auth.device_keys WHERE id = ANY (ARRAY(
             SELECT id FROM auth.device_keys WHERE revoked_at < $1 ORDER BY revoked_at LIMIT $2
             FOR UPDATE SKIP LOCKED))",
        before,
        limit,
    );
    Ok(deleted.execute(db).await?.rows_affected())
}
