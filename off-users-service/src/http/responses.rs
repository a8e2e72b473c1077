//! The bodies of responses.

use crate::{
    domain::{self, NamedShelfItem},
    registration,
};
use chrono::{DateTime, Utc};
use off_events::{Barcode, SsdId, UserId};
use serde::Serialize;
use utoipa::ToSchema;

/// The ids of a new person and their devices.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Registered {
    user_id: UserId,
    /// In the order of the request.
    devices: Vec<RegisteredDevice>,
}

#[derive(Debug, Serialize, ToSchema)]
struct RegisteredDevice {
    ssd_id: SsdId,
    #[schema(example = "02:00:00:12:34:56")]
    mac_address: String,
}

impl From<registration::Registered> for Registered {
    fn from(registered: registration::Registered) -> Self {
        let devices = registered.devices.into_iter();
        let devices = devices.map(|(ssd_id, address)| RegisteredDevice { ssd_id, mac_address: address.into() });
        Self { user_id: registered.user_id, devices: devices.collect() }
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
    registered_at: DateTime<Utc>,
    /// Their devices.
    ssd_ids: Vec<SsdId>,
}

impl From<domain::User> for User {
    fn from(user: domain::User) -> Self {
        let domain::User { id, first_name, last_name, email, registered_at, ssd_ids } = user;
        Self { id, first_name, last_name, email, registered_at, ssd_ids }
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
struct ShelfItem {
    #[schema(value_type = String, example = "2000000000015")]
    barcode: Barcode,
    name: String,
    /// Units on the shelf.
    quantity: i32,
    /// The product is reordered at or below this quantity.
    reorder_point: i32,
    /// Since when the product is low; absent while it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    low_since: Option<DateTime<Utc>>,
}

impl From<(domain::Device, Vec<NamedShelfItem>)> for Device {
    fn from((device, shelf): (domain::Device, Vec<NamedShelfItem>)) -> Self {
        let domain::Device { ssd_id, user_id, mac_address } = device;
        let shelf = shelf.into_iter().map(|NamedShelfItem { name, item }| {
            let domain::ShelfItem { barcode, quantity, reorder_point, low_since, .. } = item;
            ShelfItem { barcode, name, quantity, reorder_point, low_since }
        });
        Self { ssd_id, user_id, mac_address, shelf: shelf.collect() }
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
    pub(super) fn new(mut devices: Vec<domain::Device>, limit: usize) -> Self {
        let has_more = devices.len() > limit;
        devices.truncate(limit);
        let next_cursor = devices.last().filter(|_| has_more).map(|device| device.ssd_id);
        Self { devices: devices.into_iter().map(Into::into).collect(), next_cursor }
    }
}
