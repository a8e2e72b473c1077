//! People, as they are registered.

use chrono::{DateTime, Utc};
use off_events::{InvalidValue, SsdId, UserId};
use off_kit::text::{is_blank, is_direction};

/// A person, without the password.
#[derive(Debug)]
pub(crate) struct User {
    pub(crate) id: UserId,
    pub(crate) first_name: String,
    pub(crate) last_name: String,
    pub(crate) email: String,
    pub(crate) phone: Option<String>,
    pub(crate) registered_at: DateTime<Utc>,
    /// Their devices, the oldest first.
    pub(crate) ssd_ids: Vec<SsdId>,
}

/// A first or last name.
pub(super) fn name(text: &str) -> Result<String, InvalidValue> {
    let name = text.trim();
    match name.chars().count() {
        _ if name.chars().any(|c| c.is_control() || is_direction(c)) => Err(InvalidValue(
            "a name must not contain control characters, or characters that change the direction of text",
        )),
        _ if is_blank(name) => Err(InvalidValue("a name must have visible characters")),
        1..=100 => Ok(name.to_owned()),
        _ => Err(InvalidValue("a name has 1 to 100 characters")),
    }
}
