//! Keys with which devices sign in.

use crate::{
    App,
    domain::{EventKind, Label, SecurityEvent, Visitor},
    events,
    store::{self, NewDeviceKey, NotInserted},
};
use chrono::{DateTime, Utc};
use off_events::SsdId;
use off_kit::auth::{OpaqueKey, RowAccess, Subject};
use uuid::Uuid;

/// Why a key was not created.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotCreated {
    #[error("there is no such device")]
    NoDevice,
    #[error("the device has two keys: revoke one first")]
    TooManyKeys,
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    #[error("{0:#}")]
    Failed(anyhow::Error),
}

/// Creates a key of a device within `access`; returns it with the time of its creation.
pub(crate) async fn create(
    app: &App,
    creator: &Subject,
    access: RowAccess,
    ssd_id: SsdId,
    label: &Label,
    visitor: &Visitor,
) -> Result<(OpaqueKey, DateTime<Utc>), NotCreated> {
    let id = Uuid::now_v7();
    let new = OpaqueKey::generate(OpaqueKey::DEVICE, id).map_err(NotCreated::Failed)?;
    let (now, created_by) = (app.clock.now(), creator.to_string());
    let sha256 = new.sha256();
    let key = NewDeviceKey { id, ssd_id, sha256: &sha256, label: label.as_str(), created_by: &created_by };
    let mut tx = app.db.begin().await?;
    store::insert_device_key(&mut tx, access, &key, now).await?.map_err(|reason| match reason {
        NotInserted::NoDevice => NotCreated::NoDevice,
        NotInserted::TooManyKeys => NotCreated::TooManyKeys,
    })?;
    let event = SecurityEvent::new(EventKind::DeviceKeyCreated, creator, visitor, describe(id, ssd_id));
    store::insert_security_event(&mut tx, &event, now).await?;
    tx.commit().await?;
    Ok((new, now))
}

/// Revokes a key of a device within `access`; returns whether there is such a key that was not revoked.
pub(crate) async fn revoke(
    app: &App,
    by: &Subject,
    access: RowAccess,
    ssd_id: SsdId,
    id: Uuid,
    visitor: &Visitor,
) -> sqlx::Result<bool> {
    let now = app.clock.now();
    let mut tx = app.db.begin().await?;
    if !store::revoke_device_key(&mut tx, access, ssd_id, id, now).await? {
        return Ok(false);
    }
    events::put_revoked(app, &mut tx, &[id]).await?;
    let event = SecurityEvent::new(EventKind::DeviceKeyRevoked, by, visitor, describe(id, ssd_id));
    store::insert_security_event(&mut tx, &event, now).await?;
    tx.commit().await?;
    app.outbox.wake();
    Ok(true)
}

fn describe(id: Uuid, ssd_id: SsdId) -> String {
    format!("key {id} of device {ssd_id}")
}
