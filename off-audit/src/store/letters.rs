//! The query about letters.

use super::MOST;
use sqlx::PgConnection;
use uuid::Uuid;

/// An order with a letter that contradicts it.
#[derive(Debug)]
pub(crate) struct WrongLetter {
    pub(crate) order_id: Uuid,
    /// What is wrong, after the words "order ID".
    pub(crate) what: String,
}

/// Finds letters that contradict their order. A letter that is missing is found by the deadline of its order, and no order
/// has two of a kind, because that is their key.
pub(crate) async fn find_wrong_letters(conn: &mut PgConnection) -> sqlx::Result<Vec<WrongLetter>> {
    sqlx::query_as!(
        WrongLetter,
        // An event may be handled by the notifications service before the orders service: a pending order may have a
        // letter that it is paid or refused, a shipped one that it is delivered. A refused one may have been cancelled first.
        r#"WITH compared AS (
               SELECT subject, CASE
                   WHEN placed.id IS NULL THEN format('has a letter (%s) but was never placed', kind)
                   WHEN kind = 'refused' AND status NOT IN ('pending', 'refused', 'cancelled')
                        OR kind = 'cancelled' AND status <> 'cancelled'
                        OR kind = 'delivered' AND status NOT IN ('shipped', 'completed')
                        OR kind = 'paid' AND status = 'refused'
                       THEN format('is %s, but has a letter that it is %s', status, kind)
                   WHEN (letter.user_id, letter.barcode, letter.quantity, letter.total)
                        IS DISTINCT FROM (placed.user_id, placed.barcode, placed.quantity, unit_price * placed.quantity)
                        OR kind = 'refused' AND status = 'refused' AND letter.missing IS DISTINCT FROM placed.missing
                       THEN format('has a letter (%s) with other facts', kind)
                   WHEN kind = 'delivered' AND NOT EXISTS (
                            SELECT FROM letters.letters AS paid WHERE paid.subject = placed.id AND paid.kind = 'paid')
                       THEN 'has no letter that it is paid'
               END AS what
               FROM letters.letters AS letter LEFT JOIN orders.product_orders AS placed ON placed.id = subject
               WHERE kind IN ('paid', 'refused', 'cancelled', 'delivered')
           )
           SELECT subject AS "order_id!", what AS "what!" FROM compared WHERE what IS NOT NULL ORDER BY subject LIMIT $1"#,
        MOST,
    )
    .fetch_all(conn)
    .await
}
