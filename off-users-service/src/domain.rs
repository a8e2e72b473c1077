//! Domain types and rules: registrations and shelves.

mod registration;
mod shelf;

pub(crate) use registration::{Email, NewRegistration, Registration};
pub(crate) use shelf::Shelf;
