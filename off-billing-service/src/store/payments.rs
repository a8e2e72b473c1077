//! Deposits, withdrawals and their reversals.

use super::{money, unreadable};
use crate::domain::{CASH, Payment, PaymentKind, TransferKind};
use chrono::{DateTime, Utc};
use off_events::{Money, UserId};
use sqlx::PgConnection;
use uuid::Uuid;

/// A deposit or withdrawal that is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PaymentRow {
    pub(crate) kind: TransferKind,
    pub(crate) user: UserId,
    pub(crate) amount: Money,
}

/// The deposit or withdrawal with this id.
pub(crate) async fn find_payment(conn: &mut PgConnection, id: Uuid) -> sqlx::Result<Option<PaymentRow>> {
    let row = sqlx::query!(
        r#"SELECT kind::text AS "kind!", greatest(debit_account, credit_account) AS "user_id!", amount
           FROM billing.transfers WHERE subject = $1 AND kind IN ('deposit', 'withdrawal')"#,
        id,
    );
    let row = row.fetch_optional(conn).await?;
    row.map(|row| {
        let kind = row.kind.parse().map_err(unreadable)?;
        Ok(PaymentRow { kind, user: UserId(row.user_id), amount: money(row.amount)? })
    })
    .transpose()
}

/// Records a deposit or withdrawal. The account must be locked; its balance is not changed.
pub(crate) async fn insert_payment(conn: &mut PgConnection, payment: &Payment, at: DateTime<Utc>) -> sqlx::Result<()> {
    let Payment { kind, user, amount, id } = payment;
    let (debit, credit) = match kind {
        PaymentKind::Deposit => (CASH, user.0),
        PaymentKind::Withdrawal => (user.0, CASH),
    };
    sqlx::query!(
        "INSERT INTO billing.transfers (subject, kind, debit_account, credit_account, amount, at)
         VALUES ($1, ($2::text)::billing.transfer_kind, $3, $4, $5, $6)",
        id,
        kind.transfer_kind().as_str(),
        debit,
        credit,
        amount.cents(),
        at,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Whether the deposit or withdrawal with this id was reversed.
pub(crate) async fn find_reversal(conn: &mut PgConnection, id: Uuid) -> sqlx::Result<bool> {
    let found = sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT FROM billing.transfers WHERE subject = $1 AND kind = 'reversal') AS "exists!""#,
        id,
    );
    found.fetch_one(conn).await
}

/// Records the reversal of a deposit or withdrawal. The account must be locked; its balance is not changed.
pub(crate) async fn insert_reversal(
    conn: &mut PgConnection,
    id: Uuid,
    reason: &str,
    at: DateTime<Utc>,
) -> sqlx::Result<()> {
    sqlx::query!(
        "INSERT INTO billing.transfers (subject, kind, debit_account, credit_account, amount, at, reason)
         SELECT subject, 'reversal', credit_account, debit_account, amount, $3, $2 FROM billing.transfers
         WHERE subject = $1 AND kind IN ('deposit', 'withdrawal')",
        id,
        reason,
        at,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Sets the balance of a locked account.
pub(crate) async fn update_balance(conn: &mut PgConnection, user: UserId, balance: Money) -> sqlx::Result<()> {
    let updated = sqlx::query!("UPDATE billing.accounts SET balance = $2 WHERE user_id = $1", user.0, balance.cents());
    updated.execute(conn).await?;
    Ok(())
}
