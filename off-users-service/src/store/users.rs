//! People and their devices.

use super::shelf_items::shelf_item;
use crate::domain::{Device, NamedShelfItem, Registration, User};
use chrono::{DateTime, Utc};
use off_events::{SsdId, UserId};
use off_kit::auth::Reach;
use sqlx::{PgConnection, PgPool};

/// Which value of a registration is already registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RegistrationConflict {
    Email,
    MacAddress,
}

/// The conflict of a registration with existing users and devices, if there is one.
pub(crate) async fn find_conflict(
    db: &PgPool,
    registration: &Registration,
) -> sqlx::Result<Option<RegistrationConflict>> {
    let taken = sqlx::query!(
        r#"SELECT EXISTS (SELECT FROM users.users WHERE email = $1) AS "email!",
                  EXISTS (SELECT FROM users.devices WHERE mac_address = ANY($2)) AS "mac_address!""#,
        registration.email.as_str(),
        &mac_addresses(registration),
    )
    .fetch_one(db)
    .await?;
    let email = taken.email.then_some(RegistrationConflict::Email);
    Ok(email.or(taken.mac_address.then_some(RegistrationConflict::MacAddress)))
}

fn mac_addresses(registration: &Registration) -> Vec<String> {
    registration.mac_addresses.iter().map(|address| address.as_str().to_owned()).collect()
}

/// Inserts a person and their devices. Returns the devices' ids in the order of their addresses.
pub(crate) async fn insert_user(
    conn: &mut PgConnection,
    registration: &Registration,
    is_simulated: bool,
    now: DateTime<Utc>,
) -> sqlx::Result<(UserId, Vec<SsdId>)> {
    let Registration { first_name, last_name, email, .. } = registration;
    let id = sqlx::query_scalar!(
        "INSERT INTO users.users (first_name, last_name, email, is_simulated, registered_at)
         VALUES ($1, $2, $3, $4, $5) RETURNING id",
        first_name,
        last_name,
        email.as_str(),
        is_simulated,
        now,
    )
    .fetch_one(&mut *conn)
    .await?;
    let mut ssd_ids = sqlx::query_scalar!(
        "INSERT INTO users.devices (user_id, mac_address, is_simulated)
         SELECT $1, address, $3 FROM unnest($2::text[]) WITH ORDINALITY AS device (address, turn) ORDER BY turn
         RETURNING id",
        id,
        &mac_addresses(registration),
        is_simulated,
    )
    .fetch_all(conn)
    .await?;
    // Ids are assigned in the order of insertion, but RETURNING does not guarantee that order.
    ssd_ids.sort_unstable();
    Ok((UserId(id), ssd_ids.into_iter().map(SsdId).collect()))
}

/// Inserts the account with which a new person signs in. The role of this service may not read it.
pub(crate) async fn insert_account(
    conn: &mut PgConnection,
    id: UserId,
    registration: &Registration,
    password_hash: &str,
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    sqlx::query!(
        "INSERT INTO auth.accounts (user_id, email, password_hash, changed_at) VALUES ($1, $2, $3, $4)",
        id.0,
        registration.email.as_str(),
        password_hash,
        now,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// A person in `reach`, with their devices.
pub(crate) async fn find_user(db: &PgPool, id: UserId, reach: Reach) -> sqlx::Result<Option<User>> {
    let (user, _, simulated) = reach.columns();
    let row = sqlx::query!(
        r#"SELECT first_name, last_name, email, registered_at,
                  ARRAY(SELECT devices.id FROM users.devices WHERE user_id = users.id ORDER BY devices.id) AS "ssd_ids!"
           FROM users.users
           WHERE id = $1 AND ($2::bigint IS NULL OR id = $2) AND ($3::bool IS NULL OR is_simulated = $3)"#,
        id.0,
        user,
        simulated,
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(|row| User {
        id,
        first_name: row.first_name,
        last_name: row.last_name,
        email: row.email,
        registered_at: row.registered_at,
        ssd_ids: row.ssd_ids.into_iter().map(SsdId).collect(),
    }))
}

/// A device in `reach`, and the products on its shelf, by name.
pub(crate) async fn find_device(
    db: &PgPool,
    ssd_id: SsdId,
    reach: Reach,
) -> sqlx::Result<Option<(Device, Vec<NamedShelfItem>)>> {
    let (user, device, simulated) = reach.columns();
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
        "SELECT barcode, products.name, shelf_items.quantity, reorder_point, low_since
         FROM users.shelf_items JOIN catalog.products USING (barcode)
         WHERE ssd_id = $1 ORDER BY products.name, barcode",
        ssd_id.0,
    )
    .fetch_all(db)
    .await?;
    let shelf = rows.into_iter().map(|row| {
        let item = shelf_item(ssd_id.0, &row.barcode, row.quantity, row.reorder_point, row.low_since)?;
        Ok(NamedShelfItem { name: row.name, item })
    });
    Ok(Some((device, shelf.collect::<sqlx::Result<_>>()?)))
}

/// Devices in `reach` with an id above `after`, the oldest first.
pub(crate) async fn list_devices(db: &PgPool, reach: Reach, after: SsdId, limit: u32) -> sqlx::Result<Vec<Device>> {
    let (user, device, simulated) = reach.columns();
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
