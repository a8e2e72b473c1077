//! Adds devices of people.

use crate::{
    App,
    registration::{RegisteredDevice, insert_keys, new_key},
    store::{self, AddedDevice, NewKey},
};
use off_events::{MacAddress, UserId};
use off_kit::http::RequestSource;

/// Why a device was not added.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AddError {
    #[error("there is no such person")]
    NoPerson,
    #[error("the MAC address is registered already")]
    MacAddressTaken,
    #[error("the person has too many devices")]
    TooMany,
    #[error("cannot generate a key: {0:#}")]
    Key(anyhow::Error),
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

/// Adds a device to a person, with its first key.
pub(crate) async fn add(
    app: &App,
    user_id: UserId,
    mac_address: MacAddress,
    source: &RequestSource,
) -> Result<RegisteredDevice, AddError> {
    let key = new_key().map_err(AddError::Key)?;
    let mut tx = app.db.begin().await?;
    let person = store::lock_person(&mut tx, user_id).await?.ok_or(AddError::NoPerson)?;
    let ssd_id = match store::insert_device(&mut tx, user_id, &person, &mac_address).await.map_err(into_error)? {
        AddedDevice::Inserted(ssd_id) => ssd_id,
        AddedDevice::MacAddressTaken => return Err(AddError::MacAddressTaken),
        AddedDevice::TooMany => return Err(AddError::TooMany),
    };
    insert_keys(app, &mut tx, user_id, &[NewKey { ssd_id, key: &key }], source).await?;
    tx.commit().await?;
    Ok(RegisteredDevice { ssd_id, mac_address, key: Some(key) })
}

/// A unique violation means that a concurrent registration was faster.
fn into_error(error: sqlx::Error) -> AddError {
    match error.as_database_error().and_then(|error| error.constraint()) {
        Some("devices_mac_address_taken") => AddError::MacAddressTaken,
        _ => AddError::Database(error),
    }
}
