//! Keys of devices.

use chrono::{DateTime, Utc};
use off_events::InvalidValue;
use off_kit::text::{is_direction, is_invisible};
use std::str::FromStr;
use uuid::Uuid;

/// A key of a device that was not revoked. Its secret is not known.
#[derive(Debug)]
pub(crate) struct DeviceKey {
    pub(crate) id: Uuid,
    pub(crate) label: String,
    pub(crate) created_at: DateTime<Utc>,
    /// The subject that created it.
    pub(crate) created_by: String,
    /// The key with which the device made it.
    pub(crate) made_with: Option<Uuid>,
    pub(crate) last_used_at: Option<DateTime<Utc>>,
}

/// What a person calls a key; may be empty.
#[derive(Debug, Default)]
pub(crate) struct Label(String);

impl Label {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Label {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let text = text.trim();
        if text.chars().count() > 100 {
            return Err(InvalidValue("a label has at most 100 characters"));
        }
        if text.chars().any(|c| c.is_control() || is_direction(c) || is_invisible(c)) {
            return Err(InvalidValue("a label must not contain control characters or invisible characters"));
        }
        Ok(Self(text.to_owned()))
    }
}
