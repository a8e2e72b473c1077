//! The bodies of responses.

use crate::{
    domain::{self, NamedShelfItem},
    registration, shelves,
    sign_in::Session,
};
use chrono::{DateTime, Utc};
use off_events::{Barcode, SsdId, UserId};
use off_kit::http::cut_page;
use serde::Serialize;
use std::fmt;
use utoipa::ToSchema;

/// A text that is shown only in the response.
#[derive(Serialize)]
#[serde(transparent)]
struct Secret(String);

/// Without the text.
impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// The ids of a new person and their devices.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Registered {
    user_id: UserId,
    /// In the order of the request.
    devices: Vec<RegisteredDevice>,
    /// The tokens of the person; absent for simulated people, and if the auth service did not answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<Session>,
}

/// A new device.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RegisteredDevice {
    ssd_id: SsdId,
    #[schema(example = "02:00:00:12:34:56")]
    mac_address: String,
    /// With this key the device signs in, as `ssd-` and its id. It is shown only here; absent for simulated devices.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    key: Option<Secret>,
}

impl From<registration::RegisteredDevice> for RegisteredDevice {
    fn from(device: registration::RegisteredDevice) -> Self {
        let registration::RegisteredDevice { ssd_id, mac_address, key } = device;
        Self { ssd_id, mac_address: mac_address.into(), key: key.map(|key| Secret(key.text().to_owned())) }
    }
}

impl From<registration::Registered> for Registered {
    fn from(registered: registration::Registered) -> Self {
        let registration::Registered { user_id, devices, session } = registered;
        Self { user_id, devices: devices.into_iter().map(Into::into).collect(), session }
    }
}

/// A person, without the password.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct User {
    id: UserId,
    #[schema(example = "Ada")]
    first_name: String,
    #[schema(example = "Example")]
    last_name: String,
    #[schema(example = "ada@example.org")]
    email: String,
    /// Absent if the person has given none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "+4930123456")]
    phone: Option<String>,
    registered_at: DateTime<Utc>,
    /// Their devices.
    ssd_ids: Vec<SsdId>,
}

impl From<domain::User> for User {
    fn from(user: domain::User) -> Self {
        let domain::User { id, first_name, last_name, email, phone, registered_at, ssd_ids } = user;
        Self { id, first_name, last_name, email, phone, registered_at, ssd_ids }
    }
}

/// A device and the products on its shelf.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Device {
    ssd_id: SsdId,
    user_id: UserId,
    #[schema(example = "02:00:00:12:34:56")]
    mac_address: String,
    shelf: Vec<ShelfItem>,
}

/// A product on a shelf.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ShelfItem {
    #[schema(value_type = String, example = "2000000000015")]
    barcode: Barcode,
    name: String,
    /// Units on the shelf.
    quantity: i32,
    /// The product is reordered at or below this quantity.
    reorder_point: i32,
    /// Whether its restocking is paused: then it is never low.
    is_paused: bool,
    /// Since when the product is low; absent while it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    low_since: Option<DateTime<Utc>>,
}

impl From<(domain::Device, Vec<NamedShelfItem>)> for Device {
    fn from((device, shelf): (domain::Device, Vec<NamedShelfItem>)) -> Self {
        let domain::Device { ssd_id, user_id, mac_address } = device;
        Self { ssd_id, user_id, mac_address, shelf: shelf.into_iter().map(ShelfItem::from).collect() }
    }
}

impl From<NamedShelfItem> for ShelfItem {
    fn from(NamedShelfItem { name, item }: NamedShelfItem) -> Self {
        let domain::ShelfItem { barcode, quantity, reorder_point, is_paused, low_since, .. } = item;
        Self { barcode, name, quantity, reorder_point, is_paused, low_since }
    }
}

/// A device in a list.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DeviceInList {
    ssd_id: SsdId,
    user_id: UserId,
    #[schema(example = "02:00:00:12:34:56")]
    mac_address: String,
}

impl From<domain::Device> for DeviceInList {
    fn from(device: domain::Device) -> Self {
        let domain::Device { ssd_id, user_id, mac_address } = device;
        Self { ssd_id, user_id, mac_address }
    }
}

/// A page of devices, the oldest first.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DevicePage {
    devices: Vec<DeviceInList>,
    /// The `cursor` of the next page; absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<SsdId>,
}

impl DevicePage {
    /// The first `limit` of `devices`, which have one more than that if there is another page.
    pub(super) fn new(mut devices: Vec<domain::Device>, limit: u32) -> Self {
        let next_cursor = cut_page(&mut devices, limit, |device| device.ssd_id);
        Self { devices: devices.into_iter().map(Into::into).collect(), next_cursor }
    }
}

/// What became of the reports of a device.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Consumed {
    /// Reports that were new.
    accepted: usize,
    /// Reports that were known already, and had no effect.
    repeated: usize,
}

impl From<shelves::Consumed> for Consumed {
    fn from(shelves::Consumed { accepted, repeated }: shelves::Consumed) -> Self {
        Self { accepted, repeated }
    }
}
