//! Accounts and charges.

use off_events::Order;
use sqlx::PgPool;

/// Deletes all charges and refusals. Each fifth person has no money, the others have much.
pub async fn reset_accounts(db: &PgPool) -> sqlx::Result<()> {
    for statement in [
        "TRUNCATE billing.transfers, billing.refusals, billing.accounts",
        "INSERT INTO billing.accounts (user_id, balance)
         SELECT id, CASE WHEN id % 5 = 0 THEN 0 ELSE 1000000000 END FROM users.users",
        "VACUUM ANALYZE billing.accounts, billing.transfers, billing.refusals",
        "CHECKPOINT",
    ] {
        sqlx::query(statement).execute(db).await?;
    }
    Ok(())
}

/// Counts the charges and the refusals.
pub async fn count_decisions(db: &PgPool) -> sqlx::Result<(i64, i64)> {
    sqlx::query_as(
        "SELECT (SELECT count(*) FROM billing.transfers WHERE kind = 'charge'), (SELECT count(*) FROM billing.refusals)",
    )
    .fetch_one(db)
    .await
}

/// Charges an order in a transaction of its own; `false` if the account has too little money.
pub async fn charge_plainly(db: &PgPool, order: &Order) -> sqlx::Result<bool> {
    let mut tx = db.begin().await?;
    let charged =
        sqlx::query("UPDATE billing.accounts SET balance = balance - $2 WHERE user_id = $1 AND balance >= $2")
            .bind(order.user_id.0)
            .bind(order.total.cents())
            .execute(&mut *tx)
            .await?;
    let is_paid = charged.rows_affected() == 1;
    let record = if is_paid {
        "INSERT INTO billing.transfers (subject, kind, debit_account, credit_account, amount, at)
         VALUES ($1, 'charge', $2, -1, $3, now())"
    } else {
        "INSERT INTO billing.refusals (order_id, user_id, reason, missing, at)
         VALUES ($1, $2, 'insufficient_funds', $3, now())"
    };
    sqlx::query(record).bind(order.id.0).bind(order.user_id.0).bind(order.total.cents()).execute(&mut *tx).await?;
    tx.commit().await?;
    Ok(is_paid)
}
