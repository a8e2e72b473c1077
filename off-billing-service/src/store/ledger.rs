//! Compares balances with transfers.

use sqlx::PgPool;

/// What a check of some accounts found.
#[derive(Debug)]
pub(crate) struct Checked {
    /// The number of accounts.
    pub(crate) accounts: u64,
    /// The last of them; `None` after the last account of all.
    pub(crate) last: Option<i64>,
    /// The people whose balance differs from their transfers.
    pub(crate) mismatches: Vec<i64>,
}

/// Compares the balances of at most `limit` accounts after that of the person `after` with their transfers. One
/// statement, so that no transfer comes in between.
pub(crate) async fn check_accounts(db: &PgPool, after: i64, limit: i64) -> sqlx::Result<Checked> {
    let rows = sqlx::query!(
        r#"SELECT user_id, balance <> (
               (SELECT coalesce(sum(amount), 0) FROM billing.transfers
                WHERE credit_account = account.user_id AND credit_account > 0)
               - (SELECT coalesce(sum(amount), 0) FROM billing.transfers
                  WHERE debit_account = account.user_id AND debit_account > 0)) AS "differs!"
           FROM billing.accounts AS account WHERE user_id > $1 ORDER BY user_id LIMIT $2"#,
        after,
        limit,
    );
    let rows = rows.fetch_all(db).await?;
    let is_full = i64::try_from(rows.len()).is_ok_and(|count| count == limit);
    Ok(Checked {
        accounts: rows.len() as u64,
        last: rows.last().filter(|_| is_full).map(|row| row.user_id),
        mismatches: rows.iter().filter(|row| row.differs).map(|row| row.user_id).collect(),
    })
}
