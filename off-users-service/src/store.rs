//! Database access: all SQL of the service.

mod devices;
mod security_events;
mod shelf_history;
mod shelf_items;
mod users;

pub(crate) use devices::{
    AddedDevice, NewKey, find_device, find_random_device, insert_device, insert_device_keys, list_devices, lock_person,
};
pub(crate) use security_events::insert_security_events;
pub(crate) use shelf_history::{FoundDelivery, find_delivery, find_product_name, list_changes};
pub(crate) use shelf_items::{
    Consumption, Delivery, claim_low_shelf_items, count_shelf_items, insert_consumptions, insert_deliveries,
    list_known_consumptions, list_unknown_products, lock_shelf_items, postpone_low, postpone_reminders,
    reset_distant_reminders, update_shelf_items,
};
pub(crate) use users::{
    ChangedUser, RegistrationConflict, find_conflict, find_user, insert_account, insert_user, update_account_email,
    update_user,
};
