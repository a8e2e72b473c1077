//! The transfers of a person.

use super::{money, unreadable};
use crate::domain::Transfer;
use chrono::{DateTime, Utc};
use off_events::UserId;
use sqlx::PgPool;
use uuid::Uuid;

/// The transfers from and to the account of a person, newest first, at most `limit`; only those before the number
/// `before`.
pub(crate) async fn list_transfers(
    db: &PgPool,
    user: UserId,
    before: Option<i64>,
    limit: i64,
) -> sqlx::Result<Vec<Transfer>> {
    let rows = sqlx::query_as!(
        TransferRow,
        // Two index ranges, each in order.
        r#"SELECT page.number AS "number!", page.kind AS "kind!", page.subject AS "subject!", page.amount AS "amount!",
                  page.is_credit AS "is_credit!", page.at AS "at!", page.reason
           FROM (
               (SELECT number, kind::text, subject, amount, false AS is_credit, at, reason FROM billing.transfers
                WHERE debit_account = $1 AND debit_account > 0 AND number < coalesce($2, 9223372036854775807)
                ORDER BY number DESC LIMIT $3)
               UNION ALL
               (SELECT number, kind::text, subject, amount, true, at, reason FROM billing.transfers
                WHERE credit_account = $1 AND credit_account > 0 AND number < coalesce($2, 9223372036854775807)
                ORDER BY number DESC LIMIT $3)
           ) AS page
           ORDER BY page.number DESC LIMIT $3"#,
        user.0,
        before,
        limit,
    )
    .fetch_all(db)
    .await?;
    rows.into_iter().map(TransferRow::into_transfer).collect()
}

/// The transfers of an order from and to the account of a person, newest first.
pub(crate) async fn list_transfers_of_order(db: &PgPool, user: UserId, order: Uuid) -> sqlx::Result<Vec<Transfer>> {
    let rows = sqlx::query_as!(
        TransferRow,
        r#"SELECT number, kind::text AS "kind!", subject, amount, credit_account = $1 AS "is_credit!", at, reason
           FROM billing.transfers
           WHERE subject = $2 AND $1 IN (debit_account, credit_account) AND $1 > 0
           ORDER BY number DESC"#,
        user.0,
        order,
    );
    rows.fetch_all(db).await?.into_iter().map(TransferRow::into_transfer).collect()
}

/// A transfer from or to an account.
#[derive(Debug)]
struct TransferRow {
    number: i64,
    kind: String,
    subject: Uuid,
    amount: i64,
    is_credit: bool,
    at: DateTime<Utc>,
    reason: Option<String>,
}

impl TransferRow {
    fn into_transfer(self) -> sqlx::Result<Transfer> {
        Ok(Transfer {
            number: self.number,
            kind: self.kind.parse().map_err(unreadable)?,
            subject: self.subject,
            amount: money(self.amount)?,
            is_credit: self.is_credit,
            at: self.at,
            reason: self.reason,
        })
    }
}
