//! People and their devices, as they are registered.

use super::ShelfItem;
use chrono::{DateTime, Utc};
use off_events::{SsdId, UserId};

/// A person, without the password.
#[derive(Debug)]
pub(crate) struct User {
    pub(crate) id: UserId,
    pub(crate) first_name: String,
    pub(crate) last_name: String,
    pub(crate) email: String,
    pub(crate) registered_at: DateTime<Utc>,
    /// Their devices, the oldest first.
    pub(crate) ssd_ids: Vec<SsdId>,
}

/// A device of a person.
#[derive(Debug)]
pub(crate) struct Device {
    pub(crate) ssd_id: SsdId,
    pub(crate) user_id: UserId,
    pub(crate) mac_address: String,
}

/// A product on a device's shelf, with its name in the catalog.
#[derive(Debug)]
pub(crate) struct NamedShelfItem {
    pub(crate) name: String,
    pub(crate) item: ShelfItem,
}
