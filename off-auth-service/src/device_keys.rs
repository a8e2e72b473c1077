//! Keys with which devices sign in.

use crate::{
    App,
    domain::{EventKind, Label, SecurityEvent},
    events,
    store::{self, Extent, NewDeviceKey, NotInserted},
};
use chrono::{DateTime, Utc};
use off_events::SsdId;
use off_kit::{
    auth::{OpaqueKey, Principal, RowAccess, Subject},
    http::RequestSource,
};
use uuid::Uuid;

/// Why a key was not created.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotCreated {
    #[error("there is no such device")]
    NoDevice,
    #[error("the device has two keys: revoke one first")]
    TooManyKeys,
    #[error("the key of this request was revoked")]
    Revoked,
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    #[error("{0:#}")]
    Failed(anyhow::Error),
}

/// Creates a key of a device within `access`; returns it with the time of its creation.
pub(crate) async fn create(
    app: &App,
    creator: &Principal,
    access: RowAccess,
    ssd_id: SsdId,
    label: &Label,
    source: &RequestSource,
) -> Result<(OpaqueKey, DateTime<Utc>), NotCreated> {
    let id = Uuid::now_v7();
    let new = OpaqueKey::generate(OpaqueKey::DEVICE, id).map_err(NotCreated::Failed)?;
    let (now, created_by) = (app.clock.now(), creator.subject.to_string());
    let made_with = is_device(creator).then_some(creator.sid);
    let sha256 = new.sha256();
    let key = NewDeviceKey { id, ssd_id, sha256: &sha256, label: label.as_str(), created_by: &created_by, made_with };
    let mut tx = app.db.begin().await?;
    store::insert_device_key(&mut tx, access, &key, now).await?.map_err(|reason| match reason {
        NotInserted::NoDevice => NotCreated::NoDevice,
        NotInserted::TooManyKeys => NotCreated::TooManyKeys,
        NotInserted::Revoked => NotCreated::Revoked,
    })?;
    let event = SecurityEvent::new(EventKind::DeviceKeyCreated, &creator.subject, source, describe(id, ssd_id));
    store::insert_security_event(&mut tx, &event, now).await?;
    tx.commit().await?;
    Ok((new, now))
}

/// Revokes a key of a device within `access`; returns whether there is such a key that was not revoked. Unless the
/// device itself does it, which replaces its key, the keys that were made with it end, too: they may be those of a
/// thief.
pub(crate) async fn revoke(
    app: &App,
    by: &Principal,
    access: RowAccess,
    ssd_id: SsdId,
    id: Uuid,
    source: &RequestSource,
) -> sqlx::Result<bool> {
    let now = app.clock.now();
    let extent = if is_device(by) { Extent::Key } else { Extent::Descendants };
    let mut tx = app.db.begin().await?;
    let ended = store::revoke_device_keys(&mut tx, access, ssd_id, id, extent, now).await?;
    if ended.is_empty() {
        return Ok(false);
    }
    events::put_revoked(app, &mut tx, &ended).await?;
    for key in &ended {
        let because = if *key == id { String::new() } else { format!(", which descends from key {id}") };
        let detail = describe(*key, ssd_id) + &because;
        let event = SecurityEvent::new(EventKind::DeviceKeyRevoked, &by.subject, source, detail);
        store::insert_security_event(&mut tx, &event, now).await?;
    }
    tx.commit().await?;
    app.outbox.wake();
    Ok(ended.contains(&id))
}

/// Whether a device calls. Its session is the key that it uses.
fn is_device(caller: &Principal) -> bool {
    matches!(caller.subject, Subject::Device(_))
}

fn describe(id: Uuid, ssd_id: SsdId) -> String {
    format!("key {id} of device {ssd_id}")
}
