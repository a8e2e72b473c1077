//! Database access: all SQL of the service.

mod accounts;
mod ledger;
mod orders;
mod payments;
mod transfers;

pub(crate) use accounts::{Account, find_account, insert_accounts, is_person, lock_accounts};
pub(crate) use ledger::check_accounts;
pub(crate) use orders::{Known, insert_decisions, insert_earnings, insert_refunds, list_known};
pub(crate) use payments::{find_payment, find_reversal, insert_payment, insert_reversal, update_balance};
pub(crate) use transfers::{list_transfers, list_transfers_of_order};

use off_events::{InvalidValue, Money};

/// An amount from its column. Fails with a decode error if it is not valid.
fn money(cents: i64) -> sqlx::Result<Money> {
    Money::from_cents(cents).map_err(unreadable)
}

/// A value in the database that is not valid in the domain.
fn unreadable(error: InvalidValue) -> sqlx::Error {
    sqlx::Error::Decode(error.into())
}
