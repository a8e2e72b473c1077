//! Database access: all SQL of the service.

mod shelves;
mod users;

pub(crate) use shelves::{
    Consumption, Delivery, claim_low_shelves, insert_consumptions, insert_deliveries, list_known_consumptions,
    lock_shelves, postpone_reminders, reset_distant_reminders, update_shelves,
};
pub(crate) use users::{
    Device, DeviceInList, RegistrationConflict, User, find_conflict, find_device, find_random_device, find_user,
    insert_user, list_devices,
};
