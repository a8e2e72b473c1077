//! Domain types and rules: the ledger, charges, and the payments of people.

mod charge;
mod ledger;
mod payment;

pub(crate) use charge::{Charge, LOW_BALANCE, Outcome, charges_to_low_balance, settle};
pub(crate) use ledger::{CASH, HELD, REVENUE, Transfer, TransferKind};
pub(crate) use payment::{NewPayment, NewReversal, Payment, PaymentKind};
