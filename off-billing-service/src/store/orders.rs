//! The money of orders: charges, refusals, earnings and refunds.

use super::money;
use crate::domain::{Charge, HELD, Outcome, REVENUE};
use chrono::{DateTime, Utc};
use off_events::OrderId;
use sqlx::{PgConnection, PgPool};
use std::collections::HashMap;
use uuid::Uuid;

/// What is known of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Known {
    /// It was paid or refused at this time.
    Decided(Outcome, DateTime<Utc>),
    /// It was cancelled before it was charged.
    Cancelled,
}

/// Finds the orders that were paid, refused or cancelled. Call it after [`super::lock_accounts`], so that no concurrent
/// transaction decides about them.
pub(crate) async fn list_known(conn: &mut PgConnection, orders: &[Uuid]) -> sqlx::Result<HashMap<OrderId, Known>> {
    let rows = sqlx::query!(
        r#"SELECT subject AS "order_id!", 'paid' AS "reason!", NULL::bigint AS missing, at AS "at!"
           FROM billing.transfers WHERE subject = ANY($1) AND kind = 'charge'
           UNION ALL
           SELECT order_id, reason, missing, at FROM billing.refusals WHERE order_id = ANY($1)"#,
        orders,
    );
    let rows = rows.fetch_all(conn).await?.into_iter().map(|row| {
        let known = match (row.reason.as_str(), row.missing) {
            ("paid", _) => Known::Decided(Outcome::Paid, row.at),
            (_, Some(missing)) => Known::Decided(Outcome::Refused(money(missing)?), row.at),
            (_, None) => Known::Cancelled,
        };
        Ok((OrderId(row.order_id), known))
    });
    rows.collect()
}

/// A charge and its outcome.
pub(crate) type Decision = (Charge, Outcome);

/// Stores decisions: takes the amounts of paid orders from the balances, and records the charges and refusals. One
/// statement. The accounts must be locked.
pub(crate) async fn insert_decisions(
    conn: &mut PgConnection,
    decisions: &[Decision],
    at: DateTime<Utc>,
) -> sqlx::Result<()> {
    let orders: Vec<Uuid> = decisions.iter().map(|(charge, _)| charge.order.0).collect();
    let users: Vec<i64> = decisions.iter().map(|(charge, _)| charge.user.0).collect();
    let amounts: Vec<i64> = decisions.iter().map(|(charge, _)| charge.amount.cents()).collect();
    let missing: Vec<Option<i64>> = decisions.iter().map(|(_, outcome)| missing_cents(*outcome)).collect();
    sqlx::query!(
        "WITH decided AS MATERIALIZED (
             SELECT order_id, user_id, amount, missing
             FROM unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::bigint[]) AS row (order_id, user_id, amount, missing)
         ), charged AS (
             INSERT INTO billing.transfers (subject, kind, debit_account, credit_account, amount, at)
             SELECT order_id, 'charge', user_id, $5, amount, $6 FROM decided WHERE missing IS NULL
         ), refused AS (
             INSERT INTO billing.refusals (order_id, user_id, reason, missing, at)
             SELECT order_id, user_id, 'insufficient_funds', missing, $6 FROM decided WHERE missing IS NOT NULL
         )
         UPDATE billing.accounts SET balance = balance - spent.amount
         FROM (SELECT user_id, sum(amount)::bigint AS amount FROM decided WHERE missing IS NULL GROUP BY user_id) AS spent
         WHERE accounts.user_id = spent.user_id",
        &orders,
        &users,
        &amounts,
        &missing as &[Option<i64>],
        HELD,
        at,
    )
    .execute(conn)
    .await?;
    Ok(())
}

fn missing_cents(outcome: Outcome) -> Option<i64> {
    match outcome {
        Outcome::Paid => None,
        Outcome::Refused(missing) => Some(missing.cents()),
    }
}

/// Records the money of completed orders as earned, once per order. Returns those that were charged.
pub(crate) async fn insert_earnings(db: &PgPool, orders: &[Uuid], at: DateTime<Utc>) -> sqlx::Result<Vec<Uuid>> {
    sqlx::query_scalar!(
        // Returns no earnings: this statement does not see one that a concurrent transaction has just recorded.
        r#"WITH charged AS MATERIALIZED (
               SELECT subject, amount FROM billing.transfers WHERE subject = ANY($1) AND kind = 'charge'
           ), earned AS (
               INSERT INTO billing.transfers (subject, kind, debit_account, credit_account, amount, at)
               SELECT subject, 'earning', $2, $3, amount, $4 FROM charged
               ORDER BY subject ON CONFLICT DO NOTHING
           )
           SELECT subject AS "subject!" FROM charged"#,
        orders,
        HELD,
        REVENUE,
        at,
    )
    .fetch_all(db)
    .await
}

/// Gives the money of cancelled orders back, once per order. An order that was not charged will never be. The accounts
/// must be locked.
pub(crate) async fn insert_refunds(
    conn: &mut PgConnection,
    orders: &[Uuid],
    users: &[i64],
    at: DateTime<Utc>,
) -> sqlx::Result<()> {
    sqlx::query!(
        "WITH refunded AS (
             INSERT INTO billing.transfers (subject, kind, debit_account, credit_account, amount, at)
             SELECT subject, 'refund', $3, debit_account, amount, $4 FROM billing.transfers
             WHERE subject = ANY($1) AND kind = 'charge'
             ORDER BY subject ON CONFLICT DO NOTHING
             RETURNING credit_account, amount
         ), refused AS (
             INSERT INTO billing.refusals (order_id, user_id, reason, at)
             SELECT order_id, user_id, 'cancelled', $4 FROM unnest($1::uuid[], $2::bigint[]) AS row (order_id, user_id)
             WHERE NOT EXISTS (SELECT FROM billing.transfers WHERE subject = order_id AND kind = 'charge')
             ORDER BY order_id ON CONFLICT (order_id) DO NOTHING
         )
         UPDATE billing.accounts SET balance = balance + back.amount
         FROM (SELECT credit_account, sum(amount)::bigint AS amount FROM refunded GROUP BY credit_account) AS back
         WHERE accounts.user_id = back.credit_account",
        orders,
        users,
        HELD,
        at,
    )
    .execute(conn)
    .await?;
    Ok(())
}
