//! The bodies of responses.

use crate::domain::{self, TransferKind};
use chrono::{DateTime, Utc};
use off_events::{Money, UserId};
use off_kit::http::cut_page;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

/// The account of a person.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Account {
    pub(super) user_id: UserId,
    /// What the person can spend.
    pub(super) balance: Money,
    /// What is paid for orders that are not completed yet.
    pub(super) held: Money,
}

/// A deposit or withdrawal.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Payment {
    pub(super) id: Uuid,
    pub(super) amount: Money,
    /// The balance after it.
    pub(super) balance: Money,
}

/// A transfer from or to the account.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Transfer {
    kind: TransferKind,
    /// The order, or the id of the deposit or withdrawal.
    subject: Uuid,
    amount: Money,
    /// Whether the account got the money; otherwise it gave it.
    is_credit: bool,
    at: DateTime<Utc>,
    /// Why an operator reversed a deposit or withdrawal.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// A page of transfers, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TransferPage {
    transfers: Vec<Transfer>,
    /// The `cursor` for the next page; absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<i64>,
}

impl TransferPage {
    /// The first `limit` of `transfers`, which have one more than that if there is another page.
    pub(super) fn new(mut transfers: Vec<domain::Transfer>, limit: u32) -> Self {
        let next_cursor = cut_page(&mut transfers, limit, |transfer| transfer.number);
        Self { transfers: transfers.into_iter().map(Transfer::from).collect(), next_cursor }
    }
}

impl From<domain::Transfer> for Transfer {
    fn from(transfer: domain::Transfer) -> Self {
        let domain::Transfer { kind, subject, amount, is_credit, at, reason, .. } = transfer;
        Self { kind, subject, amount, is_credit, at, reason }
    }
}
