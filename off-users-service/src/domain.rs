//! Domain types and rules: registrations, people and their devices, and the products on shelves.

mod registration;
mod shelf_item;
mod user;

pub(crate) use registration::{NewRegistration, Registration};
pub(crate) use shelf_item::ShelfItem;
pub(crate) use user::{Device, NamedShelfItem, User};
