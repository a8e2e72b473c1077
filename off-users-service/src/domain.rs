//! Domain types and rules: registrations, people and their devices, and the products on shelves.

mod consumption;
mod device;
mod profile;
mod registration;
mod security_event;
mod shelf_history;
mod shelf_item;
mod user;

pub(crate) use consumption::{NewConsumptions, is_report_id};
pub(crate) use device::{Device, MAX_DEVICES, NewDevice};
pub(crate) use profile::{NewProfile, Profile};
pub(crate) use registration::{NewRegistration, Registration};
pub(crate) use security_event::{EventKind, SecurityEvent};
pub(crate) use shelf_history::{Change, Changes, Level, Period, levels};
pub(crate) use shelf_item::{NamedShelfItem, ShelfItem};
pub(crate) use user::User;

use off_events::InvalidValue;
use off_kit::fields::{Fields, Raw};

/// Parses the text of `field`; records an error in `fields` if it is invalid.
fn check<T>(
    fields: &mut Fields,
    field: &str,
    raw: &Raw,
    parse: impl FnOnce(&str) -> Result<T, InvalidValue>,
) -> Option<T> {
    let text = fields.text(field, raw)?;
    fields.check(field, parse(text))
}
