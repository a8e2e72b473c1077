//! Devices and their keys.

use super::shelf_items::shelf_item;
use crate::domain::{Device, MAX_DEVICES, NamedShelfItem};
use chrono::{DateTime, Utc};
use off_events::{MacAddress, SsdId, UserId};
use off_kit::auth::{OpaqueKey, RowAccess};
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

/// A person whose row is locked until the transaction ends, so that they do not add two devices at the same time.
#[derive(Debug)]
pub(crate) struct LockedPerson {
    is_simulated: bool,
}

/// Locks a person; `None` if there is no such person.
pub(crate) async fn lock_person(conn: &mut PgConnection, id: UserId) -> sqlx::Result<Option<LockedPerson>> {
    sqlx::query_as!(LockedPerson, "SELECT is_simulated FROM users.users WHERE id = $1 FOR NO KEY UPDATE", id.0)
        .fetch_optional(conn)
        .await
}

/// What became of a new device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AddedDevice {
    /// It is registered.
    Inserted(SsdId),
    /// A device has this MAC address already.
    MacAddressTaken,
    /// The person has as many devices as allowed.
    TooMany,
}

/// Adds a device to a locked person. A device that is not added takes no id: ids have almost no gaps.
pub(crate) async fn insert_device(
    conn: &mut PgConnection,
    user_id: UserId,
    person: &LockedPerson,
    mac_address: &MacAddress,
) -> sqlx::Result<AddedDevice> {
    let row = sqlx::query!(
        r#"WITH state AS MATERIALIZED (
               SELECT (SELECT count(*) FROM users.devices WHERE user_id = $1) >= $4 AS is_full,
                      EXISTS (SELECT FROM users.devices WHERE mac_address = $2) AS is_taken
           ), inserted AS (
               INSERT INTO users.devices (user_id, mac_address, is_simulated)
               SELECT $1, $2, $3 FROM state WHERE NOT is_full AND NOT is_taken
               RETURNING id
           )
           SELECT is_taken AS "is_taken!", (SELECT id FROM inserted) AS id FROM state"#,
        user_id.0,
        mac_address.as_str(),
        person.is_simulated,
        MAX_DEVICES,
    )
    .fetch_one(conn)
    .await?;
    Ok(match row.id {
        Some(id) => AddedDevice::Inserted(SsdId(id)),
        None if row.is_taken => AddedDevice::MacAddressTaken,
        None => AddedDevice::TooMany,
    })
}

/// A key to be stored. The database gets only its digest.
#[derive(Debug)]
pub(crate) struct NewKey<'a> {
    pub(crate) ssd_id: SsdId,
    pub(crate) key: &'a OpaqueKey,
}

/// Stores the first keys of new devices. The role of this service may not read them.
pub(crate) async fn insert_device_keys(
    conn: &mut PgConnection,
    keys: &[NewKey<'_>],
    created_by: &str,
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    let ids: Vec<Uuid> = keys.iter().map(|new| new.key.id()).collect();
    let ssd_ids: Vec<i64> = keys.iter().map(|new| new.ssd_id.0).collect();
    let digests: Vec<Vec<u8>> = keys.iter().map(|new| new.key.sha256().to_vec()).collect();
    sqlx::query!(
        "INSERT INTO auth.device_keys (id, ssd_id, sha256, created_at, created_by)
         SELECT id, ssd_id, sha256, $4, $5
         FROM unnest($1::uuid[], $2::bigint[], $3::bytea[]) AS new (id, ssd_id, sha256)",
        &ids,
        &ssd_ids,
        &digests,
        now,
        created_by,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// A device within `access`, and the products on its shelf, by name.
pub(crate) async fn find_device(
    db: &PgPool,
    ssd_id: SsdId,
    access: RowAccess,
) -> sqlx::Result<Option<(Device, Vec<NamedShelfItem>)>> {
    let (user, device, simulated) = access.columns();
    let device = sqlx::query!(
        "SELECT user_id, mac_address FROM users.devices
         WHERE id = $1 AND ($2::bigint IS NULL OR user_id = $2) AND ($3::bigint IS NULL OR id = $3)
           AND ($4::bool IS NULL OR is_simulated = $4)",
        ssd_id.0,
        user,
        device,
        simulated,
    )
    .fetch_optional(db)
    .await?;
    let Some(device) = device else { return Ok(None) };
    let device = Device { ssd_id, user_id: UserId(device.user_id), mac_address: device.mac_address };
    let rows = sqlx::query!(
        "SELECT barcode, products.name, shelf_items.quantity, reorder_point, is_paused, low_since
         FROM users.shelf_items JOIN catalog.products USING (barcode)
         WHERE ssd_id = $1 ORDER BY products.name, barcode",
        ssd_id.0,
    )
    .fetch_all(db)
    .await?;
    let shelf = rows.into_iter().map(|row| {
        let item = shelf_item(ssd_id.0, &row.barcode, row.quantity, row.reorder_point, row.is_paused, row.low_since)?;
        Ok(NamedShelfItem { name: row.name, item })
    });
    Ok(Some((device, shelf.collect::<sqlx::Result<_>>()?)))
}

/// Devices within `access` with an id above `after`, the oldest first.
pub(crate) async fn list_devices(
    db: &PgPool,
    access: RowAccess,
    after: SsdId,
    limit: u32,
) -> sqlx::Result<Vec<Device>> {
    let (user, device, simulated) = access.columns();
    let rows = sqlx::query!(
        "SELECT id, user_id, mac_address FROM users.devices
         WHERE id > $1 AND ($3::bigint IS NULL OR user_id = $3) AND ($4::bigint IS NULL OR id = $4)
           AND ($5::bool IS NULL OR is_simulated = $5)
         ORDER BY id LIMIT $2",
        after.0,
        i64::from(limit),
        user,
        device,
        simulated,
    )
    .fetch_all(db)
    .await?;
    let devices = rows.into_iter().map(|row| Device {
        ssd_id: SsdId(row.id),
        user_id: UserId(row.user_id),
        mac_address: row.mac_address,
    });
    Ok(devices.collect())
}

/// A device, chosen uniformly at random. Random ids are tried until one exists. The ids have almost no gaps, so 32
/// tries are enough; `None` if no device is registered or, very rarely, no try succeeded.
pub(crate) async fn find_random_device(db: &PgPool) -> sqlx::Result<Option<SsdId>> {
    let id = sqlx::query_scalar!(
        // Looked up one by one, and only until there is one: OFFSET 0 leaves no other way to join.
        "WITH drawn AS MATERIALIZED (
             SELECT 1 + floor(random() * (SELECT max(id) FROM users.devices))::bigint AS id FROM generate_series(1, 32)
         )
         SELECT found.id
         FROM drawn, LATERAL (SELECT id FROM users.devices WHERE devices.id = drawn.id OFFSET 0) AS found
         LIMIT 1"
    )
    .fetch_optional(db)
    .await?;
    Ok(id.map(SsdId))
}
