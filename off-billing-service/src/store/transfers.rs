//! The transfers of a person.

use super::{money, unreadable};
use crate::domain::Transfer;
use off_events::UserId;
use sqlx::PgPool;

/// The transfers from and to the account of a person, newest first, at most `limit`; only those before the number
/// `before`.
pub(crate) async fn list_transfers(
    db: &PgPool,
    user: UserId,
    before: Option<i64>,
    limit: i64,
) -> sqlx::Result<Vec<Transfer>> {
    let rows = sqlx::query!(
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
    rows.into_iter()
        .map(|row| {
            Ok(Transfer {
                number: row.number,
                kind: row.kind.parse().map_err(unreadable)?,
                subject: row.subject,
                amount: money(row.amount)?,
                is_credit: row.is_credit,
                at: row.at,
                reason: row.reason,
            })
        })
        .collect()
}
