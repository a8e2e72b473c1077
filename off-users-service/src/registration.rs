//! Registers people: the person, their devices and the event, all or none.

use crate::{
    App,
    domain::Registration,
    store::{self, RegistrationConflict},
};
use off_events::{MacAddress, SsdId, UserId, UserRegistered};
use off_kit::{outbox::Entry, password::HashError, telemetry};

/// Why a person was not registered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RegistrationError {
    #[error("already registered: {0:?}")]
    Conflict(RegistrationConflict),
    #[error(transparent)]
    Hash(#[from] HashError),
    #[error(transparent)]
    Database(sqlx::Error),
}

/// A registered person, and their devices in the order of the request.
#[derive(Debug)]
pub(crate) struct Registered {
    pub(crate) user_id: UserId,
    pub(crate) devices: Vec<(SsdId, MacAddress)>,
}

/// Registers a person and their devices.
pub(crate) async fn register(
    app: &App,
    mut registration: Registration,
    is_simulated: bool,
) -> Result<Registered, RegistrationError> {
    // Checked before the slow hash, and before the insert takes ids from the sequences: a rejected registration must
    // not leave a gap in the ids.
    let conflict = store::find_conflict(&app.db, &registration).await.map_err(RegistrationError::Database)?;
    if let Some(conflict) = conflict {
        return Err(RegistrationError::Conflict(conflict));
    }
    let password_hash = app.hasher.hash(std::mem::take(&mut registration.password)).await?;
    let (user_id, ssd_ids) = insert(app, &registration, &password_hash, is_simulated).await.map_err(into_error)?;
    app.outbox.wake();
    Ok(Registered { user_id, devices: ssd_ids.into_iter().zip(registration.mac_addresses).collect() })
}

/// Stores the person, the devices and the event in one transaction.
async fn insert(
    app: &App,
    registration: &Registration,
    password_hash: &str,
    is_simulated: bool,
) -> sqlx::Result<(UserId, Vec<SsdId>)> {
    let now = app.clock.now();
    let mut tx = app.db.begin().await?;
    let (id, ssd_ids) = store::insert_user(&mut tx, registration, is_simulated, now).await?;
    store::insert_account(&mut tx, id, registration, password_hash, now).await?;
    let event = UserRegistered { id, ssd_ids: ssd_ids.clone(), timestamp: now };
    let entry = Entry { event: &event, occurred_at: now, traceparent: telemetry::current_traceparent() };
    app.outbox.put(&mut tx, &[entry]).await?;
    tx.commit().await?;
    Ok((id, ssd_ids))
}

/// A unique violation means that a concurrent registration was faster.
fn into_error(error: sqlx::Error) -> RegistrationError {
    match error.as_database_error().and_then(|error| error.constraint()) {
        Some("users_email_taken") => RegistrationError::Conflict(RegistrationConflict::Email),
        Some("devices_mac_address_taken") => RegistrationError::Conflict(RegistrationConflict::MacAddress),
        _ => RegistrationError::Database(error),
    }
}
