//! The query for what an audit reads.

use serde::Serialize;
use sqlx::PgConnection;

/// Numbers of rows, and the money of all accounts in cents.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Counts {
    pub(crate) pending: i64,
    pub(crate) paid: i64,
    pub(crate) shipped: i64,
    pub(crate) completed: i64,
    pub(crate) refused: i64,
    pub(crate) cancelled: i64,
    pub(crate) accounts: i64,
    pub(crate) transfers: i64,
    pub(crate) refusals: i64,
    pub(crate) letters: i64,
    pub(crate) deliveries: i64,
    pub(crate) consumptions: i64,
    pub(crate) shelf_items: i64,
    pub(crate) outbox: i64,
    /// The balances of people.
    pub(crate) balances: i64,
    /// Charged for orders that have not ended.
    pub(crate) held: i64,
    pub(crate) revenue: i64,
    /// Withdrawals minus deposits.
    pub(crate) cash: i64,
}

impl Counts {
    pub(crate) fn orders(&self) -> i64 {
        self.pending + self.paid + self.shipped + self.completed + self.refused + self.cancelled
    }
}

/// Counts the rows of each kind, and adds up the money.
pub(crate) async fn count_rows(conn: &mut PgConnection) -> sqlx::Result<Counts> {
    sqlx::query_as!(
        Counts,
        r#"SELECT placed.*, ledger.*, people.*,
                  (SELECT count(*) FROM billing.refusals) AS "refusals!",
                  (SELECT count(*) FROM letters.letters) AS "letters!",
                  (SELECT count(*) FROM users.deliveries) AS "deliveries!",
                  (SELECT count(*) FROM users.consumptions) AS "consumptions!",
                  (SELECT count(*) FROM users.shelf_items) AS "shelf_items!",
                  (SELECT count(*) FROM outbox.messages) AS "outbox!"
           FROM (SELECT count(*) FILTER (WHERE status = 'pending') AS "pending!",
                        count(*) FILTER (WHERE status = 'paid') AS "paid!",
                        count(*) FILTER (WHERE status = 'shipped') AS "shipped!",
                        count(*) FILTER (WHERE status = 'completed') AS "completed!",
                        count(*) FILTER (WHERE status = 'refused') AS "refused!",
                        count(*) FILTER (WHERE status = 'cancelled') AS "cancelled!"
                 FROM orders.product_orders) AS placed,
                (SELECT count(*) AS "transfers!",
                        coalesce(sum(CASE -1 WHEN credit_account THEN amount WHEN debit_account THEN -amount END), 0)::bigint
                            AS "held!",
                        coalesce(sum(amount) FILTER (WHERE credit_account = -2), 0)::bigint AS "revenue!",
                        coalesce(sum(CASE 0 WHEN credit_account THEN amount WHEN debit_account THEN -amount END), 0)::bigint
                            AS "cash!"
                 FROM billing.transfers) AS ledger,
                (SELECT count(*) AS "accounts!", coalesce(sum(balance), 0)::bigint AS "balances!"
                 FROM billing.accounts) AS people"#
    )
    .fetch_one(conn)
    .await
}
