//! Accounts of people.

use super::money;
use off_events::{Money, UserId};
use sqlx::{PgConnection, PgPool};
use std::collections::HashMap;

/// Opens the accounts of these people that have none yet.
pub(crate) async fn insert_accounts(db: &PgPool, users: &[i64]) -> sqlx::Result<()> {
    // In one order, so that concurrent transactions do not deadlock.
    let inserted = sqlx::query!(
        "INSERT INTO billing.accounts (user_id) SELECT DISTINCT user_id FROM unnest($1::bigint[]) AS person (user_id)
         ORDER BY user_id ON CONFLICT (user_id) DO NOTHING",
        users,
    );
    inserted.execute(db).await?;
    Ok(())
}

/// Locks the accounts of these people until the transaction ends, in the order of their ids, and returns their balances.
/// Opens the accounts that do not exist, because the event of the registration has not arrived yet.
pub(crate) async fn lock_accounts(conn: &mut PgConnection, users: &[i64]) -> sqlx::Result<HashMap<UserId, Money>> {
    // Before any lock, so that concurrent transactions do not deadlock.
    sqlx::query!(
        "INSERT INTO billing.accounts (user_id) SELECT user_id FROM unnest($1::bigint[]) AS wanted (user_id)
         WHERE NOT EXISTS (SELECT FROM billing.accounts AS account WHERE account.user_id = wanted.user_id)
         ORDER BY user_id ON CONFLICT (user_id) DO NOTHING",
        users,
    )
    .execute(&mut *conn)
    .await?;
    let rows = sqlx::query!(
        "SELECT user_id, balance FROM billing.accounts WHERE user_id = ANY($1) ORDER BY user_id FOR NO KEY UPDATE",
        users,
    );
    rows.fetch_all(conn).await?.into_iter().map(|row| Ok((UserId(row.user_id), money(row.balance)?))).collect()
}

/// The account of a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) balance: Money,
    /// What is paid for orders that are not completed yet.
    pub(crate) held: Money,
}

/// Whether the person `user` exists, and is simulated as `simulated` says, unless it is `None`.
pub(crate) async fn is_person(db: &PgPool, user: UserId, simulated: Option<bool>) -> sqlx::Result<bool> {
    let exists = sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT FROM users.users WHERE id = $1 AND ($2::bool IS NULL OR is_simulated = $2)) AS "exists!""#,
        user.0,
        simulated,
    );
    exists.fetch_one(db).await
}

/// The account of a person; only of a simulated person if `simulated` is true.
pub(crate) async fn find_account(db: &PgPool, user: UserId, simulated: Option<bool>) -> sqlx::Result<Option<Account>> {
    let row = sqlx::query!(
        r#"SELECT coalesce(balance, 0) AS "balance!",
                  (SELECT coalesce(sum(amount), 0)::bigint FROM billing.transfers AS charge
                   WHERE debit_account = person.id AND debit_account > 0 AND kind = 'charge'
                     AND NOT EXISTS (SELECT FROM billing.transfers AS ended
                                     WHERE ended.subject = charge.subject AND ended.kind IN ('earning', 'refund')))
                  AS "held!"
           FROM users.users AS person LEFT JOIN billing.accounts ON user_id = person.id
           WHERE person.id = $1 AND ($2::bool IS NULL OR person.is_simulated = $2)"#,
        user.0,
        simulated,
    )
    .fetch_optional(db)
    .await?;
    row.map(|row| Ok(Account { balance: money(row.balance)?, held: money(row.held)? })).transpose()
}
