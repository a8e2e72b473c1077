//! Database access: all SQL of the service.

mod letters;
mod mails;
mod readers;

pub(crate) use letters::{find_letter, insert_letters, list_letters, list_letters_of_order};
pub(crate) use mails::{LeasedMail, MailOutcome, count_mails, lease_mails, record_mails, release_mails};
pub(crate) use readers::{count_unread, find_preferences, mark_read, update_preferences};

use crate::domain::{Facts, LetterKind};
use off_events::{InvalidValue, Money};

/// The kind of a letter from its column. Fails with a decode error if it is not valid.
fn kind(name: &str) -> sqlx::Result<LetterKind> {
    name.parse().map_err(unreadable)
}

/// The facts of a letter from their columns. Fails like [`kind`].
fn facts(
    barcode: Option<String>,
    quantity: Option<i32>,
    total: Option<i64>,
    missing: Option<i64>,
) -> sqlx::Result<Facts> {
    let money = |cents: Option<i64>| cents.map(Money::from_cents).transpose().map_err(unreadable);
    Ok(Facts { barcode, quantity, total: money(total)?, missing: money(missing)? })
}

/// A value in the database that is not valid in the domain.
fn unreadable(error: InvalidValue) -> sqlx::Error {
    sqlx::Error::Decode(error.into())
}
