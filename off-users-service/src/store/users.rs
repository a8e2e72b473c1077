//! People and their accounts.

use crate::domain::{Profile, Registration, User};
use chrono::{DateTime, Utc};
use off_events::{SsdId, UserId};
use off_kit::auth::RowAccess;
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

/// A person within `access`, with their devices.
pub(crate) async fn find_user(db: &PgPool, id: UserId, access: RowAccess) -> sqlx::Result<Option<User>> {
    let (user, _, simulated) = access.columns();
    let row = sqlx::query!(
        r#"SELECT first_name, last_name, email, phone, registered_at,
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
        phone: row.phone,
        registered_at: row.registered_at,
        ssd_ids: row.ssd_ids.into_iter().map(SsdId).collect(),
    }))
}

/// A person after a change.
#[derive(Debug)]
pub(crate) struct ChangedUser {
    pub(crate) user: User,
    /// Whether the e-mail address is another one.
    pub(crate) has_new_email: bool,
    /// Whether the name or the phone number is another one.
    pub(crate) has_new_profile: bool,
}

/// Replaces the profile of a person within `access`; `None` if there is no such person.
pub(crate) async fn update_user(
    conn: &mut PgConnection,
    id: UserId,
    access: RowAccess,
    profile: &Profile,
) -> sqlx::Result<Option<ChangedUser>> {
    let (user, _, simulated) = access.columns();
    let row = sqlx::query!(
        r#"WITH old AS MATERIALIZED (
               SELECT id, first_name, last_name, email, phone FROM users.users
               WHERE id = $1 AND ($2::bigint IS NULL OR id = $2) AND ($3::bool IS NULL OR is_simulated = $3)
               FOR UPDATE
           )
           UPDATE users.users AS person SET first_name = $4, last_name = $5, email = $6, phone = $7
           FROM old WHERE person.id = old.id
           RETURNING person.registered_at, old.email <> $6 AS "has_new_email!",
               (old.first_name, old.last_name) <> ($4, $5) OR old.phone IS DISTINCT FROM $7 AS "has_new_profile!",
               ARRAY(SELECT devices.id FROM users.devices WHERE user_id = $1 ORDER BY devices.id) AS "ssd_ids!""#,
        id.0,
        user,
        simulated,
        profile.first_name,
        profile.last_name,
        profile.email.as_str(),
        profile.phone.as_deref(),
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| ChangedUser {
        user: User {
            id,
            first_name: profile.first_name.clone(),
            last_name: profile.last_name.clone(),
            email: profile.email.as_str().to_owned(),
            phone: profile.phone.clone(),
            registered_at: row.registered_at,
            ssd_ids: row.ssd_ids.into_iter().map(SsdId).collect(),
        },
        has_new_email: row.has_new_email,
        has_new_profile: row.has_new_profile,
    }))
}

/// Changes the address by which a person signs in.
pub(crate) async fn update_account_email(conn: &mut PgConnection, id: UserId, email: &str) -> sqlx::Result<()> {
    sqlx::query!("UPDATE auth.accounts SET email = $2 WHERE user_id = $1", id.0, email).execute(conn).await?;
    Ok(())
}
