//! The queries of the checks, and the products that clients order.

use chrono::{DateTime, Utc};
use sqlx::PgPool;
use std::{collections::BTreeMap, time::Duration};
use uuid::Uuid;

/// What has not drained yet.
#[derive(Debug)]
pub(crate) struct Left {
    /// Orders for which something must still happen.
    pub(crate) orders: i64,
    /// Messages that are not published.
    pub(crate) unpublished: i64,
    /// Shelf items that are low, except those whose device orders again after `pause`.
    pub(crate) low: i64,
}

impl Left {
    /// Counts what has not drained yet. `pause` is the time from a refused or cancelled order to the next `stock.low`.
    pub(crate) async fn count(db: &PgPool, pause: Duration) -> sqlx::Result<Self> {
        let left = sqlx::query_as!(
            Self,
            r#"SELECT (SELECT count(*) FROM orders.unfinished_orders) AS "orders!",
                      (SELECT count(*) FROM outbox.messages)
                      + (SELECT count(*) FROM orders.late_orders WHERE unpublished) AS "unpublished!",
                      (SELECT count(*) FROM users.shelf_items
                       WHERE low_since IS NOT NULL
                         AND remind_at IS DISTINCT FROM low_since + make_interval(secs => $1)) AS "low!""#,
            pause.as_secs_f64(),
        );
        left.fetch_one(db).await
    }
}

/// A row of an order, with what the users service, the billing service and the notifications service did.
#[derive(Debug)]
pub(crate) struct OrderRow {
    pub(crate) id: Uuid,
    /// The idempotency key; empty if there is none.
    pub(crate) key: String,
    pub(crate) ssd_id: i64,
    pub(crate) user_id: i64,
    pub(crate) barcode: String,
    pub(crate) quantity: i32,
    /// In cents.
    pub(crate) total: i64,
    pub(crate) status: String,
    /// Whether its times are in chronological order.
    pub(crate) is_in_order: bool,
    pub(crate) is_payment_known: bool,
    pub(crate) is_shipping_known: bool,
    /// Deliveries that match it.
    pub(crate) deliveries: i64,
    /// Transfers of each kind.
    pub(crate) charges: i64,
    pub(crate) earnings: i64,
    pub(crate) refunds: i64,
    /// Transfers with another amount, or from or to the account of another person.
    pub(crate) wrong_transfers: i64,
    /// Whether the billing service will never charge it: 1 or 0.
    pub(crate) refusals: i64,
    /// The kinds of its letters, in the order of their type, without those about a low balance. A letter that does not
    /// agree with the order is `wrong`.
    pub(crate) letters: Vec<String>,
}

/// Reads all orders.
pub(crate) async fn read_orders(db: &PgPool) -> sqlx::Result<Vec<OrderRow>> {
    sqlx::query_as!(
        OrderRow,
        // A cancelled order may be paid later than it ended: the cancellation overtook the charge.
        r#"SELECT placed.id, coalesce(idempotency_key, '') AS "key!", placed.ssd_id, placed.user_id, placed.barcode,
                  placed.quantity, unit_price * placed.quantity AS "total!", status::text AS "status!",
                  coalesce(placed_at <= coalesce(completed_at, ended_at), false)
                      AND coalesce(placed_at <= paid_at, true) AND coalesce(paid_at <= shipped_at, true)
                      AND coalesce(shipped_at BETWEEN placed_at AND completed_at, true) AS "is_in_order!",
                  paid_at IS NOT NULL AS "is_payment_known!", shipped_at IS NOT NULL AS "is_shipping_known!",
                  (SELECT count(*) FROM users.deliveries AS delivery
                   WHERE order_id = placed.id AND delivery.ssd_id = placed.ssd_id
                     AND delivery.barcode = placed.barcode AND delivery.quantity = placed.quantity) AS "deliveries!",
                  charges AS "charges!", earnings AS "earnings!", refunds AS "refunds!", wrong AS "wrong_transfers!",
                  (SELECT count(*) FROM billing.refusals WHERE order_id = placed.id) AS "refusals!",
                  ARRAY(SELECT CASE WHEN letter.user_id = placed.user_id AND letter.barcode = placed.barcode
                                         AND letter.quantity = placed.quantity
                                         AND letter.total = unit_price * placed.quantity
                                         AND letter.missing IS NOT DISTINCT FROM CASE kind WHEN 'refused' THEN (
                                             SELECT missing FROM billing.refusals WHERE order_id = placed.id) END
                                    THEN kind::text ELSE 'wrong' END
                        FROM letters.letters AS letter
                        WHERE subject = placed.id AND kind <> 'low_balance' ORDER BY kind) AS "letters!"
           FROM orders.product_orders AS placed, LATERAL (
               SELECT count(*) FILTER (WHERE kind = 'charge') AS charges,
                      count(*) FILTER (WHERE kind = 'earning') AS earnings,
                      count(*) FILTER (WHERE kind = 'refund') AS refunds,
                      count(*) FILTER (WHERE amount <> unit_price * placed.quantity
                                          OR kind = 'charge' AND debit_account <> placed.user_id
                                          OR kind = 'refund' AND credit_account <> placed.user_id) AS wrong
               FROM billing.transfers WHERE subject = placed.id
           ) AS moved"#
    )
    .fetch_all(db)
    .await
}

/// A deposit.
#[derive(Debug)]
pub(crate) struct DepositRow {
    pub(crate) id: Uuid,
    pub(crate) user_id: i64,
    pub(crate) cents: i64,
}

/// Reads all deposits.
pub(crate) async fn read_deposits(db: &PgPool) -> sqlx::Result<Vec<DepositRow>> {
    let rows = sqlx::query_as!(
        DepositRow,
        "SELECT subject AS id, credit_account AS user_id, amount AS cents FROM billing.transfers WHERE kind = 'deposit'"
    );
    rows.fetch_all(db).await
}

/// Reads the balance of each person, in cents.
pub(crate) async fn read_balances(db: &PgPool) -> sqlx::Result<BTreeMap<i64, i64>> {
    let rows = sqlx::query!("SELECT user_id, balance FROM billing.accounts").fetch_all(db).await?;
    Ok(rows.into_iter().map(|row| (row.user_id, row.balance)).collect())
}

/// The money that is held for orders, in cents.
pub(crate) async fn find_held(db: &PgPool) -> sqlx::Result<i64> {
    let held = sqlx::query_scalar!(
        r#"SELECT coalesce(sum(CASE kind WHEN 'charge' THEN amount ELSE -amount END), 0)::bigint AS "held!"
           FROM billing.transfers WHERE kind IN ('charge', 'earning', 'refund')"#
    );
    held.fetch_one(db).await
}

/// A row of a consumption report.
#[derive(Debug)]
pub(crate) struct ReportRow {
    pub(crate) ssd_id: i64,
    /// The id that the device gave the report.
    pub(crate) id: String,
    pub(crate) barcode: String,
    pub(crate) quantity: i32,
}

/// Reads all consumption reports.
pub(crate) async fn read_reports(db: &PgPool) -> sqlx::Result<Vec<ReportRow>> {
    let rows = sqlx::query_as!(ReportRow, "SELECT ssd_id, id, barcode, quantity FROM users.consumptions");
    rows.fetch_all(db).await
}

/// A shelf item that is low, or marked as low.
#[derive(Debug)]
pub(crate) struct LowShelfItem {
    pub(crate) ssd_id: i64,
    pub(crate) barcode: String,
    pub(crate) quantity: i32,
    /// Whether its device orders again later, because its order was refused or cancelled.
    pub(crate) is_postponed: bool,
}

/// Finds the shelf items that are low, or marked as low. `pause` is the time from a refused or cancelled order to the
/// next `stock.low`.
pub(crate) async fn find_low_shelf_items(db: &PgPool, pause: Duration) -> sqlx::Result<Vec<LowShelfItem>> {
    let low = sqlx::query_as!(
        LowShelfItem,
        r#"SELECT ssd_id, barcode, quantity,
                  coalesce(remind_at = low_since + make_interval(secs => $1), false) AND EXISTS (
                      SELECT FROM orders.product_orders AS ended
                      WHERE ended.ssd_id = shelf.ssd_id AND ended.barcode = shelf.barcode
                        AND status IN ('refused', 'cancelled') AND placed_at <= low_since) AS "is_postponed!"
           FROM users.shelf_items AS shelf WHERE low_since IS NOT NULL OR quantity <= reorder_point AND NOT is_paused"#,
        pause.as_secs_f64(),
    );
    low.fetch_all(db).await
}

/// An order whose time of payment was cleared.
#[derive(Debug)]
pub(crate) struct ClearedOrder {
    pub(crate) id: Uuid,
    pub(crate) ssd_id: i64,
    pub(crate) user_id: i64,
    pub(crate) barcode: String,
    pub(crate) quantity: i32,
    /// In cents.
    pub(crate) unit_price: i64,
    pub(crate) placed_at: DateTime<Utc>,
}

/// Clears the time of payment of the newest paid order.
pub(crate) async fn clear_payment(db: &PgPool) -> sqlx::Result<ClearedOrder> {
    let order = sqlx::query_as!(
        ClearedOrder,
        "UPDATE orders.product_orders SET paid_at = NULL
         WHERE id = (SELECT id FROM orders.product_orders WHERE paid_at IS NOT NULL ORDER BY id DESC LIMIT 1)
         RETURNING id, ssd_id, user_id, barcode, quantity, unit_price, placed_at"
    );
    order.fetch_one(db).await
}

/// Whether the time of payment of an order is known.
pub(crate) async fn is_payment_known(db: &PgPool, order: Uuid) -> sqlx::Result<bool> {
    let paid_at = sqlx::query_scalar!("SELECT paid_at FROM orders.product_orders WHERE id = $1", order);
    Ok(paid_at.fetch_one(db).await?.is_some())
}

/// The first `count` barcodes of the catalog.
pub(crate) async fn find_barcodes(db: &PgPool, count: i64) -> sqlx::Result<Vec<String>> {
    let barcodes = sqlx::query_scalar!("SELECT barcode FROM catalog.products ORDER BY barcode LIMIT $1", count);
    barcodes.fetch_all(db).await
}

/// How many of these people have their welcome letter.
pub(crate) async fn count_welcomed(db: &PgPool, users: &[i64]) -> sqlx::Result<i64> {
    let count = sqlx::query_scalar!(
        r#"SELECT count(*) AS "count!" FROM letters.letters WHERE kind = 'welcome' AND user_id = ANY($1)"#,
        users,
    );
    count.fetch_one(db).await
}

/// Makes simulated people real, with addresses to which off sends. The first of them wants no e-mail about payments.
pub(crate) async fn make_real(db: &PgPool, users: &[i64]) -> sqlx::Result<()> {
    let made = sqlx::query!(
        "WITH made AS (
             UPDATE users.users SET is_simulated = false, email = format('ada-%s@mail-%s.dev', id, id)
             WHERE id = ANY($1) RETURNING id
         )
         INSERT INTO letters.readers (user_id, not_mailed)
         SELECT min(id), ARRAY['paid'::letters.letter_kind] FROM made",
        users,
    );
    made.execute(db).await?;
    Ok(())
}

/// A letter that should not exist.
#[derive(Debug)]
pub(crate) struct OddLetter {
    pub(crate) subject: Uuid,
    pub(crate) kind: String,
    pub(crate) user_id: i64,
}

/// Finds the letters about orders that do not exist, and the welcome letters of people who do not exist or have two.
pub(crate) async fn find_odd_letters(db: &PgPool) -> sqlx::Result<Vec<OddLetter>> {
    let odd = sqlx::query_as!(
        OddLetter,
        r#"SELECT subject, kind::text AS "kind!", user_id FROM letters.letters AS letter
           WHERE CASE kind
               WHEN 'welcome' THEN NOT EXISTS (SELECT FROM users.users WHERE id = user_id)
                    OR EXISTS (SELECT FROM letters.letters AS other
                               WHERE other.user_id = letter.user_id AND other.kind = 'welcome' AND other.id < letter.id)
               ELSE NOT EXISTS (SELECT FROM orders.product_orders WHERE id = subject)
           END"#
    );
    odd.fetch_all(db).await
}

/// Counts the letters.
pub(crate) async fn count_letters(db: &PgPool) -> sqlx::Result<i64> {
    let count = sqlx::query_scalar!(r#"SELECT count(*) AS "count!" FROM letters.letters"#);
    count.fetch_one(db).await
}

/// A letter that is an e-mail, or must be one.
#[derive(Debug)]
pub(crate) struct MailRow {
    pub(crate) subject: Uuid,
    pub(crate) kind: String,
    /// The address of its person.
    pub(crate) email: Option<String>,
    /// Whether it must be an e-mail: its person is real and wants this kind.
    pub(crate) is_wanted: bool,
    /// Its e-mails.
    pub(crate) mails: i64,
    /// The state of its e-mail.
    pub(crate) state: Option<String>,
}

/// Reads the letters that are e-mails or must be. All welcome letters were written while their people were simulated.
pub(crate) async fn read_mails(db: &PgPool) -> sqlx::Result<Vec<MailRow>> {
    let rows = sqlx::query_as!(
        MailRow,
        r#"SELECT subject AS "subject!", kind::text AS "kind!", email AS "email?", is_wanted AS "is_wanted!",
                  mails AS "mails!", state
           FROM (
               SELECT subject, kind, email,
                      coalesce(NOT is_simulated AND kind <> 'welcome' AND (kind = ANY (not_mailed)) IS NOT TRUE, false)
                          AS is_wanted,
                      (SELECT count(*) FROM letters.mails AS mail
                       WHERE (mail.subject, mail.kind) = (letter.subject, letter.kind)) AS mails,
                      (SELECT min(state::text) FROM letters.mails AS mail
                       WHERE (mail.subject, mail.kind) = (letter.subject, letter.kind)) AS state
               FROM letters.letters AS letter LEFT JOIN users.users ON users.id = user_id
                    LEFT JOIN letters.readers USING (user_id)
           ) AS letter
           WHERE is_wanted OR mails > 0"#
    );
    rows.fetch_all(db).await
}

/// Makes the next attempt of each e-mail that waits for it due.
pub(crate) async fn make_mails_due(db: &PgPool) -> sqlx::Result<()> {
    sqlx::query!("UPDATE letters.mails SET next_at = now() WHERE state = 'queued'").execute(db).await?;
    Ok(())
}
