//! People and their devices.

use crate::domain::{Email, Registration};
use chrono::{DateTime, Utc};
use off_events::{SsdId, UserId};
use serde::Serialize;
use sqlx::{PgConnection, PgPool};
use utoipa::ToSchema;

/// What of a registration belongs to someone already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    Email,
    MacAddress,
}

/// Whether something of a registration is taken already.
pub(crate) async fn find_taken(db: &PgPool, registration: &Registration) -> sqlx::Result<Option<Taken>> {
    let taken = sqlx::query!(
        r#"SELECT EXISTS (SELECT FROM users.users WHERE email = $1) AS "email!",
                  EXISTS (SELECT FROM users.ssds WHERE mac_address = ANY($2)) AS "mac_address!""#,
        registration.email.as_str(),
        &mac_addresses(registration),
    )
    .fetch_one(db)
    .await?;
    Ok(taken.email.then_some(Taken::Email).or(taken.mac_address.then_some(Taken::MacAddress)))
}

fn mac_addresses(registration: &Registration) -> Vec<String> {
    registration.mac_addresses.iter().map(|address| address.as_str().to_owned()).collect()
}

/// Stores a person and their devices; the devices' ids come in the order of their addresses.
pub(crate) async fn insert_user(
    conn: &mut PgConnection,
    registration: &Registration,
    password_hash: &str,
    now: DateTime<Utc>,
) -> sqlx::Result<(UserId, Vec<SsdId>)> {
    let Registration { first_name, last_name, email, .. } = registration;
    let id = sqlx::query_scalar!(
        "INSERT INTO users.users (first_name, last_name, email, password_hash, registered_at)
         VALUES ($1, $2, $3, $4, $5) RETURNING id",
        first_name,
        last_name,
        Email::as_str(email),
        password_hash,
        now,
    )
    .fetch_one(&mut *conn)
    .await?;
    let mut ssd_ids = sqlx::query_scalar!(
        "INSERT INTO users.ssds (user_id, mac_address)
         SELECT $1, address FROM unnest($2::text[]) WITH ORDINALITY AS device (address, turn) ORDER BY turn
         RETURNING id",
        id,
        &mac_addresses(registration),
    )
    .fetch_all(conn)
    .await?;
    // Ids are drawn in the order of insertion; only RETURNING does not promise to keep it.
    ssd_ids.sort_unstable();
    Ok((UserId(id), ssd_ids.into_iter().map(SsdId).collect()))
}

/// A person, without the password.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct User {
    id: UserId,
    #[schema(example = "Ada")]
    first_name: String,
    #[schema(example = "Example")]
    last_name: String,
    #[schema(example = "ada@example.org")]
    email: String,
    registered_at: DateTime<Utc>,
    /// Their devices.
    ssd_ids: Vec<SsdId>,
}

pub(crate) async fn find_user(db: &PgPool, id: UserId) -> sqlx::Result<Option<User>> {
    let row = sqlx::query!(
        r#"SELECT first_name, last_name, email, registered_at,
                  ARRAY(SELECT ssds.id FROM users.ssds WHERE user_id = users.id ORDER BY ssds.id) AS "ssd_ids!"
           FROM users.users WHERE id = $1"#,
        id.0,
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

/// A device and what stands on its shelf.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Device {
    ssd_id: SsdId,
    user_id: UserId,
    #[schema(example = "02:00:00:12:34:56")]
    mac_address: String,
    shelf: Vec<ShelfItem>,
}

/// A product on a shelf.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ShelfItem {
    #[schema(example = "2000000000015")]
    barcode: String,
    name: String,
    /// Units on the shelf.
    quantity: i32,
    /// At or under this it is ordered again.
    reorder_point: i32,
    /// Since when it is low and not restocked.
    #[serde(skip_serializing_if = "Option::is_none")]
    low_since: Option<DateTime<Utc>>,
}

pub(crate) async fn find_device(db: &PgPool, ssd_id: SsdId) -> sqlx::Result<Option<Device>> {
    let device =
        sqlx::query!("SELECT user_id, mac_address FROM users.ssds WHERE id = $1", ssd_id.0).fetch_optional(db).await?;
    let Some(device) = device else { return Ok(None) };
    let shelf = sqlx::query_as!(
        ShelfItem,
        "SELECT barcode, products.name, product_ssds.quantity, reorder_point, low_since
         FROM users.product_ssds JOIN catalog.products USING (barcode)
         WHERE ssd_id = $1 ORDER BY products.name, barcode",
        ssd_id.0,
    )
    .fetch_all(db)
    .await?;
    Ok(Some(Device { ssd_id, user_id: UserId(device.user_id), mac_address: device.mac_address, shelf }))
}

/// A device in a list.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeviceInList {
    pub(crate) ssd_id: SsdId,
    user_id: UserId,
    #[schema(example = "02:00:00:12:34:56")]
    mac_address: String,
}

/// Devices behind `after`, the oldest first.
pub(crate) async fn list_devices(db: &PgPool, after: SsdId, limit: u32) -> sqlx::Result<Vec<DeviceInList>> {
    let rows = sqlx::query!(
        "SELECT id, user_id, mac_address FROM users.ssds WHERE id > $1 ORDER BY id LIMIT $2",
        after.0,
        i64::from(limit),
    )
    .fetch_all(db)
    .await?;
    let devices = rows.into_iter().map(|row| DeviceInList {
        ssd_id: SsdId(row.id),
        user_id: UserId(row.user_id),
        mac_address: row.mac_address,
    });
    Ok(devices.collect())
}

/// A device, each as likely as the other: ids are drawn until one is a device's. Almost all are, so that 32 draws are
/// plenty; `None` is that none is registered, or very bad luck.
pub(crate) async fn find_random_ssd(db: &PgPool) -> sqlx::Result<Option<SsdId>> {
    let id = sqlx::query_scalar!(
        // Looked up one by one, and only until there is one: OFFSET 0 leaves no other way to join.
        "WITH drawn AS MATERIALIZED (
             SELECT 1 + floor(random() * (SELECT max(id) FROM users.ssds))::bigint AS id FROM generate_series(1, 32)
         )
         SELECT found.id
         FROM drawn, LATERAL (SELECT id FROM users.ssds WHERE ssds.id = drawn.id OFFSET 0) AS found
         LIMIT 1"
    )
    .fetch_optional(db)
    .await?;
    Ok(id.map(SsdId))
}
