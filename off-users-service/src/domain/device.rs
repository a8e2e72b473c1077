//! Devices of people.

use super::check;
use off_events::{MacAddress, SsdId, UserId};
use off_kit::fields::{FieldError, Fields, Raw};
use serde::Deserialize;
use utoipa::ToSchema;

/// Maximum number of devices of a person.
pub(crate) const MAX_DEVICES: i64 = 50;

/// A device that a person adds.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
pub(crate) struct NewDevice {
    /// That of one device: neither zero nor that of a group, like the broadcast address.
    #[serde(default)]
    #[schema(value_type = String, required, example = "02:00:00:12:34:56")]
    pub(super) mac_address: Raw,
}

impl NewDevice {
    /// The address of the device. Returns the error of the field if it is invalid.
    pub(crate) fn check(self) -> Result<MacAddress, Vec<FieldError>> {
        let mut fields = Fields::default();
        let address = check(&mut fields, "mac_address", &self.mac_address, str::parse::<MacAddress>);
        fields.finish(address)
    }
}

/// A device of a person.
#[derive(Debug)]
pub(crate) struct Device {
    pub(crate) ssd_id: SsdId,
    pub(crate) user_id: UserId,
    pub(crate) mac_address: String,
}
