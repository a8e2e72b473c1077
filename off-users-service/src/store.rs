//! All its SQL.

mod shelves;
mod users;

pub(crate) use shelves::{
    Consumption, Delivery, insert_consumptions, insert_deliveries, list_known_consumptions, lock_shelves,
    postpone_reminders, reset_distant_reminders, take_low_shelves, update_shelves,
};
pub(crate) use users::{
    Device, DeviceInList, Taken, User, find_device, find_random_ssd, find_taken, find_user, insert_user, list_devices,
};
