//! All SQL of the service.

pub(crate) mod checkpoints;
pub(crate) mod late_orders;

use crate::{
    deadlines::TimeLimits,
    domain::{OrderRequest, OrderWithHistory, history},
};
use chrono::{DateTime, Utc};
use off_events::{Barcode, Order, OrderId, OrderStatus, Quantity, SsdId, UserId};
use off_kit::auth::RowAccess;
use sqlx::{PgConnection, PgPool};
use std::{collections::HashSet, time::Duration};
use uuid::Uuid;

/// Maximum difference between the clock of a service and that of the database. Recovery finds orders by the time at
/// which they were placed.
pub(crate) const CLOCK_TOLERANCE: Duration = Duration::from_secs(5);

/// Inserts the requests whose device and product exist, whose caller may order for the device, whose key is new and
/// whose timestamp is within [`CLOCK_TOLERANCE`], each with the deadline of its first step. Returns the ids of the
/// inserted orders. One statement, so that a batch costs one transaction and one round trip.
pub(crate) async fn insert_orders(
    conn: &mut PgConnection,
    requests: &[OrderRequest],
    limits: TimeLimits,
) -> sqlx::Result<HashSet<OrderId>> {
    let columns = Columns::of(requests);
    let stored = sqlx::query!(
        // OFFSET 0 prevents a join: one index lookup per request costs the same regardless of table sizes and
        // statistics.
        "INSERT INTO orders.product_orders (id, ssd_id, barcode, quantity, placed_at, idempotency_key, deadline)
         SELECT id, ssd_id, barcode, quantity, placed_at, idempotency_key, now() + make_interval(secs => $7)
         FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::int[], $5::timestamptz[], $6::text[],
                     $9::bigint[], $10::bigint[], $11::bool[])
              AS request (id, ssd_id, barcode, quantity, placed_at, idempotency_key, of_user, of_device, of_simulated)
         WHERE EXISTS (SELECT FROM users.devices WHERE devices.id = request.ssd_id
                         AND (of_user IS NULL OR devices.user_id = of_user)
                         AND (of_device IS NULL OR devices.id = of_device)
                         AND (of_simulated IS NULL OR devices.is_simulated = of_simulated) OFFSET 0)
           AND EXISTS (SELECT FROM catalog.products WHERE products.barcode = request.barcode OFFSET 0)
           AND abs(extract(epoch FROM request.placed_at - now())::float8) < $8
         -- Concurrent transactions insert the same keys in the same order, so they do not deadlock.
         ORDER BY request.ssd_id, request.idempotency_key
         ON CONFLICT (ssd_id, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING",
        &columns.ids,
        &columns.ssd_ids,
        &columns.barcodes,
        &columns.quantities,
        &columns.times,
        &columns.keys as &[Option<String>],
        limits.of(OrderStatus::Pending).as_secs_f64(),
        CLOCK_TOLERANCE.as_secs_f64(),
        &columns.of_users as &[Option<i64>],
        &columns.of_devices as &[Option<i64>],
        &columns.of_simulated as &[Option<bool>],
    )
    .execute(&mut *conn)
    .await?;
    if stored.rows_affected() == requests.len() as u64 {
        return Ok(requests.iter().map(|request| request.order.id).collect());
    }
    // A second query, because conflicts are rare: RETURNING would make every batch slower by a tenth.
    let ids = sqlx::query_scalar!("SELECT id FROM orders.product_orders WHERE id = ANY($1)", &columns.ids);
    Ok(ids.fetch_all(conn).await?.into_iter().map(OrderId).collect())
}

/// Why a request was not inserted.
#[derive(Debug)]
pub(crate) struct InsertConflict {
    pub(crate) id: OrderId,
    /// Whether the device exists and the caller may order for it.
    pub(crate) ssd_exists: bool,
    pub(crate) product_exists: bool,
    /// Whether its timestamp is within [`CLOCK_TOLERANCE`] of the database's time.
    pub(crate) is_timely: bool,
    /// The order that was placed earlier with the same key, with its first status, `pending`.
    pub(crate) earlier_order: Option<Order>,
}

/// Lists why [`insert_orders`] did not insert these requests.
pub(crate) async fn list_conflicts(
    conn: &mut PgConnection,
    requests: &[&OrderRequest],
) -> sqlx::Result<Vec<InsertConflict>> {
    let columns = Columns::of(requests.iter().copied());
    let rows = sqlx::query!(
        // Only a join from request to order is possible, so that the nullability that sqlx derives from the plan does
        // not depend on statistics.
        r#"SELECT request.id AS "request_id!",
                  EXISTS (SELECT FROM users.devices WHERE devices.id = request.ssd_id
                            AND (of_user IS NULL OR devices.user_id = of_user)
                            AND (of_device IS NULL OR devices.id = of_device)
                            AND (of_simulated IS NULL OR devices.is_simulated = of_simulated)) AS "ssd_exists!",
                  EXISTS (SELECT FROM catalog.products WHERE products.barcode = request.barcode) AS "product_exists!",
                  abs(extract(epoch FROM request.placed_at - now())::float8) < $6 AS "is_timely!",
                  placed.id AS "id?", placed.ssd_id AS "ssd_id?", placed.barcode AS "barcode?",
                  placed.quantity AS "quantity?", placed.placed_at AS "placed_at?"
           FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::text[], $5::timestamptz[],
                       $7::bigint[], $8::bigint[], $9::bool[])
                AS request (id, ssd_id, barcode, idempotency_key, placed_at, of_user, of_device, of_simulated)
           LEFT JOIN LATERAL (
               SELECT id, ssd_id, barcode, quantity, placed_at FROM orders.product_orders
               WHERE product_orders.ssd_id = request.ssd_id AND product_orders.idempotency_key = request.idempotency_key OFFSET 0
           ) AS placed ON true"#,
        &columns.ids,
        &columns.ssd_ids,
        &columns.barcodes,
        &columns.keys as &[Option<String>],
        &columns.times,
        CLOCK_TOLERANCE.as_secs_f64(),
        &columns.of_users as &[Option<i64>],
        &columns.of_devices as &[Option<i64>],
        &columns.of_simulated as &[Option<bool>],
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter()
        .map(|row| {
            let placed = (row.id, row.ssd_id, row.barcode, row.quantity, row.placed_at);
            let earlier_order = match placed {
                (Some(id), Some(ssd_id), Some(barcode), Some(quantity), Some(placed_at)) => {
                    Some(order(id, ssd_id, &barcode, quantity, placed_at, "pending")?)
                }
                _ => None,
            };
            Ok(InsertConflict {
                id: OrderId(row.request_id),
                ssd_exists: row.ssd_exists,
                product_exists: row.product_exists,
                is_timely: row.is_timely,
                earlier_order,
            })
        })
        .collect()
}

/// Order requests as column arrays, for `unnest`.
#[derive(Default)]
struct Columns {
    ids: Vec<Uuid>,
    ssd_ids: Vec<i64>,
    barcodes: Vec<String>,
    quantities: Vec<i32>,
    times: Vec<DateTime<Utc>>,
    keys: Vec<Option<String>>,
    /// The rows that each caller may touch: its person, its device, and whether it is limited to simulated devices.
    of_users: Vec<Option<i64>>,
    of_devices: Vec<Option<i64>>,
    of_simulated: Vec<Option<bool>>,
}

impl Columns {
    fn of<'a>(requests: impl IntoIterator<Item = &'a OrderRequest>) -> Self {
        let mut columns = Self::default();
        for OrderRequest { order, key, access } in requests {
            columns.ids.push(order.id.0);
            columns.ssd_ids.push(order.ssd_id.0);
            columns.barcodes.push(order.barcode.as_str().to_owned());
            columns.quantities.push(order.quantity.get());
            columns.times.push(order.timestamp);
            columns.keys.push(key.as_ref().map(|key| key.as_str().to_owned()));
            let (user, device, simulated) = access.columns();
            columns.of_users.push(user);
            columns.of_devices.push(device);
            columns.of_simulated.push(simulated);
        }
        columns
    }
}

/// Records that orders have reached `status`, and sets the deadline for the next one: the time limit counts from when
/// the order was placed, or from now if the order is late. A status never moves backwards: an order that is already
/// further keeps its status, and only its history is completed. Returns the ids of the orders that exist.
pub(crate) async fn mark_reached(
    db: &PgPool,
    status: OrderStatus,
    ids: &[Uuid],
    times: &[DateTime<Utc>],
    limits: TimeLimits,
) -> sqlx::Result<HashSet<OrderId>> {
    let known = sqlx::query_scalar!(
        // Events for several statuses of the same orders are handled concurrently: locking in the same order avoids
        // deadlocks.
        "WITH locked AS MATERIALIZED (
             SELECT id, at FROM unnest($2::uuid[], $3::timestamptz[]) AS reached (id, at)
             JOIN orders.product_orders AS known USING (id) ORDER BY id FOR NO KEY UPDATE OF known
         ), moved AS (
             UPDATE orders.product_orders AS orders
             SET status = greatest(orders.status, ($1::text)::orders.order_status),
                 shipped_at = CASE WHEN $1 = 'shipped' THEN coalesce(orders.shipped_at, greatest(locked.at, orders.placed_at))
                                   ELSE orders.shipped_at END,
                 completed_at = CASE WHEN $1 = 'completed'
                                     THEN coalesce(orders.completed_at, greatest(locked.at, orders.placed_at, orders.shipped_at))
                                     ELSE orders.completed_at END,
                 deadline = CASE WHEN orders.status < ($1::text)::orders.order_status
                               THEN greatest(orders.placed_at + make_interval(secs => $4), now() + make_interval(secs => $5))
                               ELSE orders.deadline END
             FROM locked WHERE orders.id = locked.id
             RETURNING orders.id, orders.deadline
         ), late AS (
             -- Ends recovery's backoff for orders that moved on: only those have a deadline in the future.
             UPDATE orders.late_orders SET check_at = moved.deadline, announcements = 0, unpublished = false
             FROM moved WHERE order_id = moved.id AND moved.deadline > now()
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

/// Returns an order of a device within `access`, with its history.
pub(crate) async fn find_order(db: &PgPool, id: OrderId, access: RowAccess) -> sqlx::Result<Option<OrderWithHistory>> {
    let (user, device, simulated) = access.columns();
    let row = sqlx::query!(
        r#"SELECT orders.id, ssd_id, barcode, quantity, status::text AS "status!", placed_at, shipped_at, completed_at
           FROM orders.product_orders AS orders JOIN users.devices ON devices.id = orders.ssd_id
           WHERE orders.id = $1 AND ($2::bigint IS NULL OR devices.user_id = $2)
             AND ($3::bigint IS NULL OR devices.id = $3) AND ($4::bool IS NULL OR devices.is_simulated = $4)"#,
        id.0,
        user,
        device,
        simulated,
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

/// Lists a page of orders, newest first. There is no index on the status: a pending or shipped order is either in
/// `orders.late_orders`, or the checkpoint of its status has not passed it yet.
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

/// Lists a page of the orders of a person's devices, newest first. Reads one index range per device, so that the cost
/// does not depend on the number of other orders.
pub(crate) async fn list_orders_of_person(db: &PgPool, person: UserId, filter: &Filter) -> sqlx::Result<Vec<Order>> {
    let rows = sqlx::query!(
        r#"SELECT page.id, ssd_id, barcode, quantity, status::text AS "status!", placed_at
           FROM users.devices CROSS JOIN LATERAL (
               SELECT id, ssd_id, barcode, quantity, status, placed_at FROM orders.product_orders
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
    )
    .fetch_all(db)
    .await?;
    rows.into_iter()
        .map(|row| order(row.id, row.ssd_id, &row.barcode, row.quantity, row.placed_at, &row.status))
        .collect()
}

/// Returns the first drawn product that is still sold. Each draw is a position in the catalog, from 0 to less than 1,
/// and all products are equally likely. Almost all products are still sold, so that 32 draws are enough. `None` means
/// an empty catalog, or very rarely that no drawn product is still sold.
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

/// The lowest id of an order that is placed at `time` or later: ids are UUIDs of version 7, which begin with the time.
fn first_id_at(time: DateTime<Utc>) -> Uuid {
    let millis = u128::try_from(time.timestamp_millis()).unwrap_or_default();
    Uuid::from_u128(millis << 80)
}

/// Builds an order from its columns. Fails with a decode error if a value is not valid in the domain.
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
        barcode: barcode.parse().map_err(unreadable)?,
        timestamp: placed_at,
        quantity: Quantity::try_from(i64::from(quantity)).map_err(unreadable)?,
        status: status.parse().map_err(unreadable)?,
    })
}

/// A value in the database that is not valid in the domain.
fn unreadable(error: off_events::InvalidValue) -> sqlx::Error {
    sqlx::Error::Decode(error.into())
}
