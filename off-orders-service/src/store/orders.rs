//! Orders as clients read them.

use super::{OrderRow, unreadable};
use crate::domain::{OrderWithHistory, Step, Times, history};
use off_events::{Order, OrderId, OrderStatus, SsdId, UserId};
use off_kit::auth::RowAccess;
use sqlx::PgPool;

/// Of the times when an order was announced again, so many are read.
const MAX_ANNOUNCEMENTS: i64 = 20;

/// Returns an order of a device within `access`, with its history.
pub(crate) async fn find_order(db: &PgPool, id: OrderId, access: RowAccess) -> sqlx::Result<Option<OrderWithHistory>> {
    let (user, device, simulated) = access.columns();
    let row = sqlx::query!(
        r#"SELECT placed.id, ssd_id, placed.user_id, barcode, quantity, unit_price, status::text AS "status!", missing,
                  placed_at, paid_at, shipped_at, completed_at, ended_at, idempotency_key,
                  ARRAY(SELECT announcements.status::text FROM orders.announcements WHERE order_id = placed.id
                        ORDER BY announced_at DESC LIMIT $5) AS "announced_statuses!",
                  ARRAY(SELECT announced_at FROM orders.announcements WHERE order_id = placed.id
                        ORDER BY announced_at DESC LIMIT $5) AS "announced_at!"
           FROM orders.product_orders AS placed JOIN users.devices ON devices.id = placed.ssd_id
           WHERE placed.id = $1 AND ($2::bigint IS NULL OR devices.user_id = $2)
             AND ($3::bigint IS NULL OR devices.id = $3) AND ($4::bool IS NULL OR devices.is_simulated = $4)"#,
        id.0,
        user,
        device,
        simulated,
        MAX_ANNOUNCEMENTS,
    )
    .fetch_optional(db)
    .await?;
    row.map(|row| {
        let times = Times {
            placed_at: row.placed_at,
            paid_at: row.paid_at,
            shipped_at: row.shipped_at,
            completed_at: row.completed_at,
            ended_at: row.ended_at,
        };
        let order = OrderRow {
            id: row.id,
            ssd_id: row.ssd_id,
            user_id: row.user_id,
            barcode: row.barcode,
            quantity: row.quantity,
            unit_price: row.unit_price,
            status: row.status,
            placed_at: row.placed_at,
            missing: row.missing,
        };
        let order = order.into_order()?;
        let history = history(order.status, &times);
        let announced = row.announced_statuses.iter().zip(row.announced_at).rev();
        let announced = announced.map(|(status, at)| Ok(Step { status: status.parse().map_err(unreadable)?, at }));
        let announced_again = announced.collect::<sqlx::Result<_>>()?;
        Ok(OrderWithHistory { order, idempotency_key: row.idempotency_key, history, announced_again })
    })
    .transpose()
}

/// Which orders to list, newest first.
#[derive(Debug)]
pub(crate) struct Filter {
    pub(crate) status: Option<OrderStatus>,
    pub(crate) ssd_id: Option<SsdId>,
    /// Only orders older than this one.
    pub(crate) before: Option<OrderId>,
    pub(crate) limit: u32,
}

/// Lists a page of orders, newest first. There is no index on the status: an order that is under way is either in
/// `orders.late_orders`, or the checkpoint after its status has not passed it yet.
pub(crate) async fn list_orders(db: &PgPool, filter: &Filter) -> sqlx::Result<Vec<Order>> {
    let rows = sqlx::query_as!(
        OrderRow,
        r#"SELECT id AS "id!", ssd_id AS "ssd_id!", user_id AS "user_id!", barcode AS "barcode!",
                  quantity AS "quantity!", unit_price AS "unit_price!", status::text AS "status!",
                  placed_at AS "placed_at!", missing
           FROM (
               (SELECT id, ssd_id, user_id, barcode, quantity, unit_price, status, placed_at, missing
                FROM orders.product_orders
                WHERE ($1::text IS NULL OR status = ($1::text)::orders.order_status)
                  AND ($2::bigint IS NULL OR ssd_id = $2)
                  AND ($3::uuid IS NULL OR id < $3)
                  AND ($1::text IS NULL OR $1 IN ('completed', 'refused', 'cancelled')
                       OR id > (SELECT through FROM orders.checkpoints
                                WHERE status = (CASE $1 WHEN 'shipped' THEN 'shipped' ELSE 'paid' END)::orders.order_status))
                ORDER BY id DESC LIMIT $4)
               UNION
               (SELECT id, ssd_id, user_id, barcode, quantity, unit_price, product_orders.status, placed_at, missing
                FROM orders.late_orders JOIN orders.product_orders ON id = order_id
                WHERE $1 IN ('pending', 'paid', 'shipped') AND product_orders.status = ($1::text)::orders.order_status
                  AND ($2::bigint IS NULL OR ssd_id = $2)
                  AND ($3::uuid IS NULL OR order_id < $3)
                ORDER BY order_id DESC LIMIT $4)
           ) AS page
           ORDER BY id DESC LIMIT $4"#,
        filter.status.map(OrderStatus::as_str),
        filter.ssd_id.map(|ssd| ssd.0),
        filter.before.map(|order| order.0),
        i64::from(filter.limit),
    );
    rows.fetch_all(db).await?.into_iter().map(OrderRow::into_order).collect()
}

/// Lists a page of the orders of a person's devices, newest first. Reads one index range per device, so that the cost
/// does not depend on the number of other orders.
pub(crate) async fn list_orders_of_person(db: &PgPool, person: UserId, filter: &Filter) -> sqlx::Result<Vec<Order>> {
    let rows = sqlx::query_as!(
        OrderRow,
        r#"SELECT page.id, ssd_id, page.user_id, barcode, quantity, unit_price, status::text AS "status!", placed_at,
                  missing
           FROM users.devices CROSS JOIN LATERAL (
               SELECT id, ssd_id, product_orders.user_id, barcode, quantity, unit_price, status, placed_at, missing
               FROM orders.product_orders
               WHERE ssd_id = devices.id
                 AND ($2::text IS NULL OR status = ($2::text)::orders.order_status)
                 AND ($4::uuid IS NULL OR id < $4)
               ORDER BY id DESC LIMIT $5
           ) AS page
           WHERE devices.user_id = $1 AND ($3::bigint IS NULL OR devices.id = $3)
           ORDER BY page.id DESC LIMIT $5"#,
        person.0,
        filter.status.map(OrderStatus::as_str),
        filter.ssd_id.map(|ssd| ssd.0),
        filter.before.map(|order| order.0),
        i64::from(filter.limit),
    );
    rows.fetch_all(db).await?.into_iter().map(OrderRow::into_order).collect()
}
