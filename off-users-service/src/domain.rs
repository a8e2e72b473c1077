//! People, devices, shelves: what they are and the rules they keep.

mod registration;
mod shelf;

pub(crate) use registration::{Email, NewRegistration, Registration};
pub(crate) use shelf::Shelf;
