//! All its SQL.

pub(crate) mod recovery;

use crate::{
    deadlines::TimeLimits,
    domain::{OrderWithHistory, Wish, history},
};
use chrono::{DateTime, Utc};
use off_events::{Barcode, Order, OrderId, OrderStatus, Quantity, SsdId};
use sqlx::{PgConnection, PgPool};
use std::{collections::HashSet, time::Duration};
use uuid::Uuid;

/// How far the clock that an order was placed by may be from the database's: recovery looks for orders by that time.
pub(crate) const CLOCK_TOLERANCE: Duration = Duration::from_secs(5);

/// Stores every wish whose device and product exist, whose key is new and whose time is now, each with the deadline of its
/// first step; says which those were. One statement, and so one transaction and one round trip, for all.
pub(crate) async fn insert_orders(
    conn: &mut PgConnection,
    wishes: &[Wish],
    limits: TimeLimits,
) -> sqlx::Result<HashSet<OrderId>> {
    let columns = Columns::of(wishes);
    let stored = sqlx::query!(
        // OFFSET 0 keeps the planner from joining: a look into an index for each wish costs the same however many
        // devices and products there are, and whatever is known of their number.
        "INSERT INTO orders.product_orders (id, ssd_id, barcode, quantity, placed_at, idempotency_key, due_at)
         SELECT wish.*, now() + make_interval(secs => $7)
         FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::int[], $5::timestamptz[], $6::text[])
              AS wish (id, ssd_id, barcode, quantity, placed_at, idempotency_key)
         WHERE EXISTS (SELECT FROM users.ssds WHERE ssds.id = wish.ssd_id OFFSET 0)
           AND EXISTS (SELECT FROM catalog.products WHERE products.barcode = wish.barcode OFFSET 0)
           AND abs(extract(epoch FROM wish.placed_at - now())::float8) < $8
         -- Two writers who meet at the same keys take them in the same order, so neither waits for the other.
         ORDER BY wish.ssd_id, wish.idempotency_key
         ON CONFLICT (ssd_id, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING",
        &columns.ids,
        &columns.ssd_ids,
        &columns.barcodes,
        &columns.quantities,
        &columns.times,
        &columns.keys as &[Option<String>],
        limits.of(OrderStatus::Pending).as_secs_f64(),
        CLOCK_TOLERANCE.as_secs_f64(),
    )
    .execute(&mut *conn)
    .await?;
    if stored.rows_affected() == wishes.len() as u64 {
        return Ok(wishes.iter().map(|wish| wish.order.id).collect());
    }
    // Seldom so: to be told of each row would cost each batch a tenth.
    let ids = sqlx::query_scalar!("SELECT id FROM orders.product_orders WHERE id = ANY($1)", &columns.ids);
    Ok(ids.fetch_all(conn).await?.into_iter().map(OrderId).collect())
}

/// What stood in the way of a wish.
#[derive(Debug)]
pub(crate) struct Obstacle {
    pub(crate) id: OrderId,
    pub(crate) ssd_exists: bool,
    pub(crate) product_exists: bool,
    /// Whether it was placed by a clock that agrees with the database's.
    pub(crate) is_timely: bool,
    /// The order that was placed before with the same key, as it was then.
    pub(crate) placed_before: Option<Order>,
}

/// What stood in the way of wishes that [`insert_orders`] did not store.
pub(crate) async fn list_obstacles(conn: &mut PgConnection, wishes: &[&Wish]) -> sqlx::Result<Vec<Obstacle>> {
    let columns = Columns::of(wishes.iter().copied());
    let rows = sqlx::query!(
        // A join from wish to order and no other is possible, so that what sqlx reads from the plan, which columns can be
        // null, does not change with the tables' statistics.
        r#"SELECT wish.id AS "wish_id!",
                  EXISTS (SELECT FROM users.ssds WHERE ssds.id = wish.ssd_id) AS "ssd_exists!",
                  EXISTS (SELECT FROM catalog.products WHERE products.barcode = wish.barcode) AS "product_exists!",
                  abs(extract(epoch FROM wish.asked_at - now())::float8) < $6 AS "is_timely!",
                  placed.id AS "id?", placed.ssd_id AS "ssd_id?", placed.barcode AS "barcode?",
                  placed.quantity AS "quantity?", placed.placed_at AS "placed_at?"
           FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::text[], $5::timestamptz[])
                AS wish (id, ssd_id, barcode, idempotency_key, asked_at)
           LEFT JOIN LATERAL (
               SELECT id, ssd_id, barcode, quantity, placed_at FROM orders.product_orders
               WHERE product_orders.ssd_id = wish.ssd_id AND product_orders.idempotency_key = wish.idempotency_key OFFSET 0
           ) AS placed ON true"#,
        &columns.ids,
        &columns.ssd_ids,
        &columns.barcodes,
        &columns.keys as &[Option<String>],
        &columns.times,
        CLOCK_TOLERANCE.as_secs_f64(),
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter()
        .map(|row| {
            let placed = (row.id, row.ssd_id, row.barcode, row.quantity, row.placed_at);
            let placed_before = match placed {
                (Some(id), Some(ssd_id), Some(barcode), Some(quantity), Some(placed_at)) => {
                    Some(order(id, ssd_id, &barcode, quantity, placed_at, "pending")?)
                }
                _ => None,
            };
            Ok(Obstacle {
                id: OrderId(row.wish_id),
                ssd_exists: row.ssd_exists,
                product_exists: row.product_exists,
                is_timely: row.is_timely,
                placed_before,
            })
        })
        .collect()
}

/// Wishes turned into the arrays that `unnest` takes.
#[derive(Default)]
struct Columns {
    ids: Vec<Uuid>,
    ssd_ids: Vec<i64>,
    barcodes: Vec<String>,
    quantities: Vec<i32>,
    times: Vec<DateTime<Utc>>,
    keys: Vec<Option<String>>,
}

impl Columns {
    fn of<'a>(wishes: impl IntoIterator<Item = &'a Wish>) -> Self {
        let mut columns = Self::default();
        for Wish { order, key, .. } in wishes {
            columns.ids.push(order.id.0);
            columns.ssd_ids.push(order.ssd_id.0);
            columns.barcodes.push(order.product_id.as_str().to_owned());
            columns.quantities.push(order.quantity.get());
            columns.times.push(order.timestamp);
            columns.keys.push(key.as_ref().map(|key| key.as_str().to_owned()));
        }
        columns
    }
}

/// Notes that orders have reached `status`, and by when they must have reached the next one: as long after they were placed as that
/// may take, or after now for those that are late. A state never moves backwards: an order that is further already stays so, and only
/// its history learns when it was shipped. Says which orders exist.
pub(crate) async fn mark_reached(
    db: &PgPool,
    status: OrderStatus,
    ids: &[Uuid],
    times: &[DateTime<Utc>],
    limits: TimeLimits,
) -> sqlx::Result<HashSet<OrderId>> {
    let known = sqlx::query_scalar!(
        // News of several states come at the same time, for the same orders: whoever locks them in the same order never
        // waits in a circle.
        "WITH locked AS MATERIALIZED (
             SELECT id, at FROM unnest($2::uuid[], $3::timestamptz[]) AS news (id, at)
             JOIN orders.product_orders AS known USING (id) ORDER BY id FOR NO KEY UPDATE OF known
         ), moved AS (
             UPDATE orders.product_orders AS orders
             SET status = greatest(orders.status, ($1::text)::orders.order_status),
                 shipped_at = CASE WHEN $1 = 'shipped' THEN coalesce(orders.shipped_at, greatest(locked.at, orders.placed_at))
                                   ELSE orders.shipped_at END,
                 completed_at = CASE WHEN $1 = 'completed'
                                     THEN coalesce(orders.completed_at, greatest(locked.at, orders.placed_at, orders.shipped_at))
                                     ELSE orders.completed_at END,
                 due_at = CASE WHEN orders.status < ($1::text)::orders.order_status
                               THEN greatest(orders.placed_at + make_interval(secs => $4), now() + make_interval(secs => $5))
                               ELSE orders.due_at END
             FROM locked WHERE orders.id = locked.id
             RETURNING orders.id, orders.due_at
         ), late AS (
             -- Recovery backs off from an order that does not move on. Only one that did has its deadline in the future.
             UPDATE orders.late_orders SET check_at = moved.due_at, announcements = 0, unpublished = false
             FROM moved WHERE order_id = moved.id AND moved.due_at > now()
         )
         SELECT id FROM moved",
        status.as_str(),
        ids,
        times,
        limits.since_placed(status).as_secs_f64(),
        limits.of(status).as_secs_f64(),
    )
    .fetch_all(db)
    .await?;
    Ok(known.into_iter().map(OrderId).collect())
}

/// The order with all it went through.
pub(crate) async fn find_order(db: &PgPool, id: OrderId) -> sqlx::Result<Option<OrderWithHistory>> {
    let row = sqlx::query!(
        r#"SELECT id, ssd_id, barcode, quantity, status::text AS "status!", placed_at, shipped_at, completed_at
           FROM orders.product_orders WHERE id = $1"#,
        id.0,
    )
    .fetch_optional(db)
    .await?;
    row.map(|row| {
        Ok(OrderWithHistory {
            order: order(row.id, row.ssd_id, &row.barcode, row.quantity, row.placed_at, &row.status)?,
            history: history(row.placed_at, row.shipped_at, row.completed_at),
        })
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

/// A page of orders, newest first. Orders under way are found by the checkpoint that passed all but late ones: the state
/// has no index.
pub(crate) async fn list_orders(db: &PgPool, filter: &Filter) -> sqlx::Result<Vec<Order>> {
    let rows = sqlx::query!(
        r#"SELECT id AS "id!", ssd_id AS "ssd_id!", barcode AS "barcode!", quantity AS "quantity!",
                  status::text AS "status!", placed_at AS "placed_at!"
           FROM (
               (SELECT id, ssd_id, barcode, quantity, status, placed_at
                FROM orders.product_orders
                WHERE ($1::text IS NULL OR status = ($1::text)::orders.order_status)
                  AND ($2::bigint IS NULL OR ssd_id = $2)
                  AND ($3::uuid IS NULL OR id < $3)
                  AND ($1::text IS NULL OR $1 = 'completed'
                       OR id > (SELECT through FROM orders.checkpoints WHERE status = ($1::text)::orders.order_status))
                ORDER BY id DESC LIMIT $4)
               UNION
               (SELECT id, ssd_id, barcode, quantity, product_orders.status, placed_at
                FROM orders.late_orders JOIN orders.product_orders ON id = order_id
                WHERE $1::text <> 'completed' AND product_orders.status = ($1::text)::orders.order_status
                  AND ($2::bigint IS NULL OR ssd_id = $2)
                  AND ($3::uuid IS NULL OR order_id < $3)
                ORDER BY order_id DESC LIMIT $4)
           ) AS page
           ORDER BY id DESC LIMIT $4"#,
        filter.status.map(OrderStatus::as_str),
        filter.ssd_id.map(|ssd| ssd.0),
        filter.before.map(|order| order.0),
        i64::from(filter.limit),
    )
    .fetch_all(db)
    .await?;
    rows.into_iter()
        .map(|row| order(row.id, row.ssd_id, &row.barcode, row.quantity, row.placed_at, &row.status))
        .collect()
}

/// The first product that is still sold among those drawn: each draw is a place in the catalogue, from 0 to under 1, and each
/// product is as likely as the other. Almost all are still sold, so that 32 draws are plenty; `None` is an empty catalogue or
/// very bad luck.
pub(crate) async fn find_drawn_barcode(db: &PgPool, draws: &[f64]) -> sqlx::Result<Option<Barcode>> {
    let barcode = sqlx::query_scalar!(
        // Looked up one by one, and only until there is one: OFFSET 0 leaves no other way to join.
        "WITH drawn AS MATERIALIZED (
             SELECT 1 + floor(place * (SELECT max(number) FROM catalog.products))::bigint AS number
             FROM unnest($1::float8[]) AS draw (place)
         )
         SELECT found.barcode
         FROM drawn, LATERAL (SELECT barcode FROM catalog.products
                             WHERE products.number = drawn.number AND NOT products.obsolete OFFSET 0) AS found
         LIMIT 1",
        draws,
    )
    .fetch_optional(db)
    .await?;
    barcode.map(|barcode| barcode.parse().map_err(unreadable)).transpose()
}

fn order(
    id: Uuid,
    ssd_id: i64,
    barcode: &str,
    quantity: i32,
    placed_at: DateTime<Utc>,
    status: &str,
) -> sqlx::Result<Order> {
    Ok(Order {
        id: OrderId(id),
        ssd_id: SsdId(ssd_id),
        product_id: barcode.parse().map_err(unreadable)?,
        timestamp: placed_at,
        quantity: Quantity::try_from(i64::from(quantity)).map_err(unreadable)?,
        status: status.parse().map_err(unreadable)?,
    })
}

/// A value in the database that the domain does not know.
fn unreadable(error: off_events::InvalidValue) -> sqlx::Error {
    sqlx::Error::Decode(error.into())
}
