//! Database access: all SQL of the service.

mod shelf_items;
mod users;

pub(crate) use shelf_items::{
    Consumption, Delivery, claim_low_shelf_items, insert_consumptions, insert_deliveries, list_known_consumptions,
    lock_shelf_items, postpone_reminders, reset_distant_reminders, update_shelf_items,
};
pub(crate) use users::{
    RegistrationConflict, find_conflict, find_device, find_random_device, find_user, insert_account, insert_user,
    list_devices,
};
