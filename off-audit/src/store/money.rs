//! The queries about money. All amounts are in cents.

use super::MOST;
use sqlx::PgConnection;
use uuid::Uuid;

/// An account with another balance than its transfers add up to.
#[derive(Debug)]
pub(crate) struct WrongBalance {
    pub(crate) user_id: i64,
    pub(crate) holds: i64,
    pub(crate) should_hold: i64,
}

/// Finds accounts of people whose balance is not what they got minus what they gave, or is below zero.
pub(crate) async fn find_wrong_balances(conn: &mut PgConnection) -> sqlx::Result<Vec<WrongBalance>> {
    sqlx::query_as!(
        WrongBalance,
        r#"WITH moved AS (
               SELECT user_id, sum(amount)::bigint AS amount
               FROM (SELECT credit_account AS user_id, amount FROM billing.transfers WHERE credit_account > 0
                     UNION ALL
                     SELECT debit_account, -amount FROM billing.transfers WHERE debit_account > 0) AS movement
               GROUP BY user_id
           )
           SELECT user_id AS "user_id!", coalesce(balance, 0) AS "holds!", coalesce(moved.amount, 0) AS "should_hold!"
           FROM billing.accounts FULL JOIN moved USING (user_id)
           WHERE coalesce(balance, 0) <> coalesce(moved.amount, 0) OR balance < 0
           ORDER BY user_id LIMIT $1"#,
        MOST,
    )
    .fetch_all(conn)
    .await
}

/// An order whose money contradicts it.
#[derive(Debug)]
pub(crate) struct WrongCharge {
    pub(crate) id: Uuid,
    /// What is wrong, after the words "order ID".
    pub(crate) what: String,
}

/// Finds orders that were not charged, earned, refunded or refused as their status says, and money of unknown orders.
/// Because each end has the amount of its charge, the money that is held is that of the charges without an end. What
/// must follow by a deadline, the earning or the refund, is found by the deadline.
pub(crate) async fn find_wrong_charges(conn: &mut PgConnection) -> sqlx::Result<Vec<WrongCharge>> {
    sqlx::query_as!(
        WrongCharge,
        // An event may be handled by the billing service before the orders service: a pending order may be charged or
        // refused, a shipped one earned.
        r#"WITH booked AS (
               SELECT subject, max(amount) FILTER (WHERE kind = 'charge') AS charged,
                      max(debit_account) FILTER (WHERE kind = 'charge') AS payer,
                      max(amount) FILTER (WHERE kind = 'earning') AS earned,
                      max(amount) FILTER (WHERE kind = 'refund') AS refunded,
                      max(credit_account) FILTER (WHERE kind = 'refund') AS receiver
               FROM billing.transfers WHERE kind IN ('charge', 'earning', 'refund') GROUP BY subject
           ), compared AS (
               SELECT coalesce(placed.id, subject, order_id) AS id, CASE
                   WHEN placed.id IS NULL AND subject IS NOT NULL THEN 'was charged but never placed'
                   WHEN placed.id IS NULL THEN 'was refused but never placed'
                   WHEN charged IS NOT NULL AND order_id IS NOT NULL THEN 'was charged and refused'
                   WHEN charged IS NULL AND subject IS NOT NULL THEN 'was earned or refunded but never charged'
                   WHEN charged IS NULL AND status IN ('paid', 'shipped', 'completed')
                       THEN format('is %s but was never charged', status)
                   WHEN charged IS NULL AND paid_at IS NOT NULL THEN 'was paid but never charged'
                   WHEN charged IS NOT NULL AND status = 'refused' THEN 'is refused but was charged'
                   WHEN status = 'refused' AND order_id IS NULL THEN 'is refused, but not by the billing service'
                   WHEN (charged, payer) <> (unit_price * placed.quantity, placed.user_id)
                       THEN format('was charged %s cents from person %s, instead of %s from person %s', charged, payer,
                                   unit_price * placed.quantity, placed.user_id)
                   WHEN earned IS NOT NULL AND status NOT IN ('shipped', 'completed')
                       THEN format('is %s but was earned', status)
                   WHEN refunded IS NOT NULL AND status <> 'cancelled' THEN format('is %s but was refunded', status)
                   WHEN coalesce(earned, refunded) <> charged THEN 'was earned or refunded with another amount'
                   WHEN receiver <> payer THEN format('was refunded to person %s, who did not pay for it', receiver)
                   WHEN refusal.reason = 'cancelled' AND status <> 'cancelled'
                       THEN format('is %s, but cancelled for the billing service', status)
                   WHEN refusal.user_id <> placed.user_id
                       THEN format('was refused to person %s, instead of person %s', refusal.user_id, placed.user_id)
                   WHEN status = 'refused' AND placed.missing IS DISTINCT FROM refusal.missing
                       THEN 'is refused in another way than the billing service decided'
               END AS what
               FROM orders.product_orders AS placed FULL JOIN booked ON subject = placed.id
                    FULL JOIN billing.refusals AS refusal ON order_id = coalesce(placed.id, subject)
           )
           SELECT id AS "id!", what AS "what!" FROM compared WHERE what IS NOT NULL ORDER BY id LIMIT $1"#,
        MOST,
    )
    .fetch_all(conn)
    .await
}

/// Finds reversals that do not reverse a deposit or withdrawal; returns their subjects.
pub(crate) async fn find_wrong_reversals(conn: &mut PgConnection) -> sqlx::Result<Vec<Uuid>> {
    sqlx::query_scalar!(
        "SELECT reversal.subject FROM billing.transfers AS reversal
         WHERE kind = 'reversal' AND NOT EXISTS (
             SELECT FROM billing.transfers AS payment
             WHERE payment.subject = reversal.subject AND kind IN ('deposit', 'withdrawal')
               AND (payment.debit_account, payment.credit_account, payment.amount)
                   = (reversal.credit_account, reversal.debit_account, reversal.amount))
         ORDER BY reversal.subject LIMIT $1",
        MOST,
    )
    .fetch_all(conn)
    .await
}
