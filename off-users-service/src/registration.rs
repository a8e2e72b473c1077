//! Registers people: the person, their devices, the keys of these and the event, all or none. Then signs the person in.

use crate::{
    App,
    domain::{EventKind, Registration, SecurityEvent},
    sign_in::Session,
    store::{self, NewKey, RegistrationConflict},
};
use off_events::{MacAddress, SsdId, UserId, UserRegistered};
use off_kit::{
    auth::{OpaqueKey, Subject},
    http::RequestSource,
    outbox::Entry,
    password::HashError,
    telemetry,
};
use sqlx::PgConnection;
use tracing::warn;
use uuid::Uuid;

/// Why a person was not registered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RegistrationError {
    #[error("already registered: {0:?}")]
    Conflict(RegistrationConflict),
    #[error(transparent)]
    Hash(#[from] HashError),
    #[error("cannot generate keys: {0:#}")]
    Keys(anyhow::Error),
    #[error(transparent)]
    Database(sqlx::Error),
}

/// A registered device.
#[derive(Debug)]
pub(crate) struct RegisteredDevice {
    pub(crate) ssd_id: SsdId,
    pub(crate) mac_address: MacAddress,
    /// `None` for a simulated device, for which its client acts.
    pub(crate) key: Option<OpaqueKey>,
}

/// A registered person, and their devices in the order of the request.
#[derive(Debug)]
pub(crate) struct Registered {
    pub(crate) user_id: UserId,
    pub(crate) devices: Vec<RegisteredDevice>,
    /// `None` if the auth service did not sign them in, and for a simulated person.
    pub(crate) session: Option<Session>,
}

/// Registers a person and their devices, and signs the person in.
pub(crate) async fn register(
    app: &App,
    registration: Registration,
    source: &RequestSource,
) -> Result<Registered, RegistrationError> {
    let keys = registration.mac_addresses.iter().map(|_| new_key().map(Some)).collect::<anyhow::Result<_>>();
    let keys = keys.map_err(RegistrationError::Keys)?;
    let registered = insert(app, &registration, keys, source, false).await?;
    let session = sign_in(app, registered.user_id, &registration, source).await;
    Ok(Registered { session, ..registered })
}

/// Registers a simulated person and their devices. These get neither keys nor tokens: the client that registers them
/// acts for them.
pub(crate) async fn register_simulated(
    app: &App,
    registration: Registration,
    source: &RequestSource,
) -> Result<Registered, RegistrationError> {
    let keys = registration.mac_addresses.iter().map(|_| None).collect();
    insert(app, &registration, keys, source, true).await
}

/// A new key of a device.
pub(crate) fn new_key() -> anyhow::Result<OpaqueKey> {
    OpaqueKey::generate(OpaqueKey::DEVICE, Uuid::new_v4())
}

/// Stores the person, the devices with their `keys`, and the event in one transaction.
async fn insert(
    app: &App,
    registration: &Registration,
    keys: Vec<Option<OpaqueKey>>,
    source: &RequestSource,
    is_simulated: bool,
) -> Result<Registered, RegistrationError> {
    // Checked before the slow hash, and before the insert takes ids from the sequences: a rejected registration must
    // not leave a gap in the ids.
    let conflict = store::find_conflict(&app.db, registration).await.map_err(RegistrationError::Database)?;
    if let Some(conflict) = conflict {
        return Err(RegistrationError::Conflict(conflict));
    }
    let password_hash = app.hasher.hash(registration.password.clone()).await?;
    let insert = async {
        let now = app.clock.now();
        let mut tx = app.db.begin().await?;
        let (user_id, ssd_ids) = store::insert_user(&mut tx, registration, is_simulated, now).await?;
        store::insert_account(&mut tx, user_id, registration, &password_hash, now).await?;
        let stored: Vec<_> = ssd_ids
            .iter()
            .zip(&keys)
            .filter_map(|(&ssd_id, key)| Some(NewKey { ssd_id, key: key.as_ref()? }))
            .collect();
        insert_keys(app, &mut tx, user_id, &stored, source).await?;
        let event = UserRegistered { id: user_id, ssd_ids: ssd_ids.clone(), timestamp: now };
        let entry = Entry { event: &event, occurred_at: now, traceparent: telemetry::current_traceparent() };
        app.outbox.put(&mut tx, &[entry]).await?;
        tx.commit().await?;
        Ok((user_id, ssd_ids))
    };
    let (user_id, ssd_ids) = insert.await.map_err(into_error)?;
    app.outbox.wake();
    let devices = ssd_ids.into_iter().zip(&registration.mac_addresses).zip(keys);
    let devices =
        devices.map(|((ssd_id, address), key)| RegisteredDevice { ssd_id, mac_address: address.clone(), key });
    Ok(Registered { user_id, devices: devices.collect(), session: None })
}

/// Stores the first keys of devices of a person, each with its security event.
pub(crate) async fn insert_keys(
    app: &App,
    conn: &mut PgConnection,
    user_id: UserId,
    keys: &[NewKey<'_>],
    source: &RequestSource,
) -> sqlx::Result<()> {
    if keys.is_empty() {
        return Ok(());
    }
    let now = app.clock.now();
    store::insert_device_keys(conn, keys, &Subject::Person(user_id).to_string(), now).await?;
    let events = keys.iter().map(|NewKey { ssd_id, key }| {
        let detail = format!("key {} of device {ssd_id}", key.id());
        SecurityEvent::of_person(user_id, EventKind::DeviceKeyCreated, detail)
    });
    store::insert_security_events(conn, &events.collect::<Vec<_>>(), source, now).await
}

/// The tokens of a new person; `None` if the auth service does not issue them now.
async fn sign_in(app: &App, id: UserId, registration: &Registration, source: &RequestSource) -> Option<Session> {
    let Registration { email, password, .. } = registration;
    match app.auth.sign_in(email.as_str(), password, source).await {
        Ok(session) => Some(session),
        Err(error) => {
            if let Some(suppressed) = app.log_limit.admit() {
                warn!(suppressed, "person {id} is registered, but the auth service did not sign them in: {error:#}");
            }
            None
        }
    }
}

/// A unique violation means that a concurrent registration was faster.
fn into_error(error: sqlx::Error) -> RegistrationError {
    match error.as_database_error().and_then(|error| error.constraint()) {
        Some("users_email_taken" | "accounts_email_taken") => RegistrationError::Conflict(RegistrationConflict::Email),
        Some("devices_mac_address_taken") => RegistrationError::Conflict(RegistrationConflict::MacAddress),
        _ => RegistrationError::Database(error),
    }
}
