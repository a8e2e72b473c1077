//! The ledger: transfers between accounts.

use chrono::{DateTime, Utc};
use off_events::{InvalidValue, Money};
use serde::Serialize;
use std::str::FromStr;
use utoipa::ToSchema;
use uuid::Uuid;

/// The account of the world outside: deposits come from it, withdrawals go to it.
pub(crate) const CASH: i64 = 0;
/// The account of money that is paid for orders which are not completed yet.
pub(crate) const HELD: i64 = -1;
/// The account of money that was earned with completed orders.
pub(crate) const REVENUE: i64 = -2;

/// What moved the money.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum TransferKind {
    /// The person paid in.
    Deposit,
    /// The person was paid out.
    Withdrawal,
    /// The person paid for an order.
    Charge,
    /// An order was completed, and its money earned.
    Earning,
    /// An order was cancelled, and the person got its money back.
    Refund,
    /// An operator reversed a deposit or a withdrawal.
    Reversal,
}

impl TransferKind {
    const ALL: [Self; 6] = [Self::Deposit, Self::Withdrawal, Self::Charge, Self::Earning, Self::Refund, Self::Reversal];

    /// Its name in SQL and in metrics.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Deposit => "deposit",
            Self::Withdrawal => "withdrawal",
            Self::Charge => "charge",
            Self::Earning => "earning",
            Self::Refund => "refund",
            Self::Reversal => "reversal",
        }
    }
}

impl FromStr for TransferKind {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or(InvalidValue("unknown kind of transfer"))
    }
}

/// A transfer from or to the account of a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Transfer {
    /// Its place among all transfers.
    pub(crate) number: i64,
    pub(crate) kind: TransferKind,
    /// The order, or the id of the deposit or withdrawal.
    pub(crate) subject: Uuid,
    pub(crate) amount: Money,
    /// Whether the person got the money; otherwise they gave it.
    pub(crate) is_credit: bool,
    pub(crate) at: DateTime<Utc>,
    /// Why an operator reversed a transfer.
    pub(crate) reason: Option<String>,
}
