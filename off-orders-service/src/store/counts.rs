//! How many orders there are.

use crate::domain::Counts;
use sqlx::PgPool;

/// Counts the orders. Those up to the last checkpoint were counted when it passed them, and are over unless they are late;
/// so the cost depends on the orders that are under way.
pub(crate) async fn count_orders(db: &PgPool) -> sqlx::Result<Counts> {
    let counts = sqlx::query_as!(
        Counts,
        r#"WITH checked AS MATERIALIZED (SELECT through, orders FROM orders.checkpoints WHERE status = 'shipped'),
                late AS MATERIALIZED (
                    SELECT status FROM orders.late_orders JOIN orders.product_orders ON id = order_id
                    WHERE order_id <= (SELECT through FROM checked)
                ),
                recent AS MATERIALIZED (
                    SELECT status, true AS is_recent FROM orders.product_orders
                    WHERE id > (SELECT through FROM checked)
                    UNION ALL
                    SELECT status, false FROM late
                )
           SELECT placed AS "placed!", pending AS "pending!", paid AS "paid!", shipped AS "shipped!",
                  placed - pending - paid - shipped AS "ended!"
           FROM (SELECT checked.orders + count(*) FILTER (WHERE is_recent) AS placed,
                        count(*) FILTER (WHERE status = 'pending') AS pending,
                        count(*) FILTER (WHERE status = 'paid') AS paid,
                        count(*) FILTER (WHERE status = 'shipped') AS shipped
                 FROM checked LEFT JOIN recent ON true GROUP BY checked.orders) AS counted"#
    );
    counts.fetch_one(db).await
}
