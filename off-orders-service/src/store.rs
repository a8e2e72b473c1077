//! All its SQL.

use crate::{
    OrdersService,
    domain::{OrderWithHistory, Wish, history},
};
use chrono::{DateTime, Utc};
use off_events::{Barcode, Order, OrderId, OrderStatus, Quantity, SsdId};
use off_kit::{Service, outbox::Rows};
use sqlx::PgPool;
use std::collections::HashSet;
use uuid::Uuid;

/// Stores every wish whose device and product exist and whose key is new, each with its event; says which those were.
/// One statement, and so one transaction and one round trip, for all.
pub(crate) async fn insert_orders(db: &PgPool, wishes: &[Wish]) -> sqlx::Result<HashSet<OrderId>> {
    let columns = Columns::of(wishes);
    let entries: Vec<_> = wishes.iter().map(Wish::entry).collect();
    let events = Rows::of(&entries)?;
    let ids = sqlx::query_scalar!(
        // OFFSET 0 keeps the planner from joining: a look into an index for each wish costs the same however many
        // devices and products there are, and whatever is known of their number.
        "WITH placed AS (
             INSERT INTO orders.product_orders (id, ssd_id, barcode, quantity, placed_at, idempotency_key)
             SELECT wish.*
             FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::int[], $5::timestamptz[], $6::text[])
                  AS wish (id, ssd_id, barcode, quantity, placed_at, idempotency_key)
             WHERE EXISTS (SELECT FROM users.ssds WHERE ssds.id = wish.ssd_id OFFSET 0)
               AND EXISTS (SELECT FROM catalog.products WHERE products.barcode = wish.barcode OFFSET 0)
             -- Two writers who meet at the same keys take them in the same order, so neither waits for the other.
             ORDER BY wish.idempotency_key
             ON CONFLICT (idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING
             RETURNING id
         ), announced AS (
             INSERT INTO outbox.messages (source, subject, message_id, body, traceparent, occurred_at)
             SELECT $7, event.subject, event.message_id, event.body, event.traceparent, event.occurred_at
             FROM unnest($1::uuid[], $8::text[], $9::text[], $10::text[], $11::text[], $5::timestamptz[])
                  AS event (order_id, subject, message_id, body, traceparent, occurred_at)
             -- IS TRUE has the ids hashed. A join would compare each with each, as the pool's sessions join by index.
             WHERE (event.order_id IN (SELECT id FROM placed)) IS TRUE
         )
         SELECT id FROM placed",
        &columns.ids,
        &columns.ssd_ids,
        &columns.barcodes,
        &columns.quantities,
        &columns.times,
        &columns.keys as &[Option<String>],
        OrdersService::NAME,
        &events.subjects,
        &events.message_ids,
        &events.bodies,
        &events.traceparents as &[Option<String>],
    )
    .fetch_all(db)
    .await?;
    Ok(ids.into_iter().map(OrderId).collect())
}

/// What stood in the way of a wish.
#[derive(Debug)]
pub(crate) struct Obstacle {
    pub(crate) id: OrderId,
    pub(crate) ssd_exists: bool,
    pub(crate) product_exists: bool,
    /// The order that was placed before with the same key, as it was then.
    pub(crate) placed_before: Option<Order>,
}

/// What stood in the way of wishes that [`insert_orders`] did not store.
pub(crate) async fn list_obstacles(db: &PgPool, wishes: &[&Wish]) -> sqlx::Result<Vec<Obstacle>> {
    let columns = Columns::of(wishes.iter().copied());
    let rows = sqlx::query!(
        // A join from wish to order and no other is possible, so that what sqlx reads from the plan, which columns can be
        // null, does not change with the tables' statistics.
        r#"SELECT wish.id AS "wish_id!",
                  EXISTS (SELECT FROM users.ssds WHERE ssds.id = wish.ssd_id) AS "ssd_exists!",
                  EXISTS (SELECT FROM catalog.products WHERE products.barcode = wish.barcode) AS "product_exists!",
                  placed.id AS "id?", placed.ssd_id AS "ssd_id?", placed.barcode AS "barcode?",
                  placed.quantity AS "quantity?", placed.placed_at AS "placed_at?"
           FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::text[]) AS wish (id, ssd_id, barcode, idempotency_key)
           LEFT JOIN LATERAL (
               SELECT id, ssd_id, barcode, quantity, placed_at FROM orders.product_orders
               WHERE product_orders.idempotency_key = wish.idempotency_key OFFSET 0
           ) AS placed ON true"#,
        &columns.ids,
        &columns.ssd_ids,
        &columns.barcodes,
        &columns.keys as &[Option<String>],
    )
    .fetch_all(db)
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

/// Notes that orders were shipped. A state never moves backwards: an order that has arrived stays so, and only its
/// history learns when it was shipped. Says which orders exist.
pub(crate) async fn mark_shipped(db: &PgPool, ids: &[Uuid], times: &[DateTime<Utc>]) -> sqlx::Result<HashSet<OrderId>> {
    let known = sqlx::query_scalar!(
        // News of both states come at the same time, for the same orders: whoever locks them in the same order never
        // waits in a circle.
        "WITH locked AS MATERIALIZED (
             SELECT id, at FROM unnest($1::uuid[], $2::timestamptz[]) AS news (id, at)
             JOIN orders.product_orders AS known USING (id) ORDER BY id FOR NO KEY UPDATE OF known
         )
         UPDATE orders.product_orders AS orders
         SET status = greatest(orders.status, 'shipped'), shipped_at = coalesce(orders.shipped_at, locked.at)
         FROM locked WHERE orders.id = locked.id
         RETURNING orders.id",
        ids,
        times,
    )
    .fetch_all(db)
    .await?;
    Ok(known.into_iter().map(OrderId).collect())
}

/// Notes that orders arrived; says which orders exist.
pub(crate) async fn mark_completed(
    db: &PgPool,
    ids: &[Uuid],
    times: &[DateTime<Utc>],
) -> sqlx::Result<HashSet<OrderId>> {
    let known = sqlx::query_scalar!(
        "WITH locked AS MATERIALIZED (
             SELECT id, at FROM unnest($1::uuid[], $2::timestamptz[]) AS news (id, at)
             JOIN orders.product_orders AS known USING (id) ORDER BY id FOR NO KEY UPDATE OF known
         )
         UPDATE orders.product_orders AS orders
         SET status = 'completed', completed_at = coalesce(orders.completed_at, locked.at)
         FROM locked WHERE orders.id = locked.id
         RETURNING orders.id",
        ids,
        times,
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

/// A page of orders, newest first.
pub(crate) async fn list_orders(db: &PgPool, filter: &Filter) -> sqlx::Result<Vec<Order>> {
    let rows = sqlx::query!(
        r#"SELECT id, ssd_id, barcode, quantity, status::text AS "status!", placed_at
           FROM orders.product_orders
           WHERE ($1::text IS NULL OR status = ($1::text)::orders.order_status)
             AND ($2::bigint IS NULL OR ssd_id = $2)
             AND ($3::uuid IS NULL OR id < $3)
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

/// An order under way, which should be heard of again.
#[derive(Debug)]
pub(crate) struct Suspect {
    pub(crate) order: Order,
    /// When it reached its state.
    pub(crate) since: DateTime<Utc>,
}

/// The last of the next `size` orders in this state; `None` when there are none after `after`.
pub(crate) async fn find_page_end(
    db: &PgPool,
    status: OrderStatus,
    after: Uuid,
    size: i64,
) -> sqlx::Result<Option<Uuid>> {
    sqlx::query_scalar!(
        "SELECT id FROM (SELECT id FROM orders.product_orders
                         WHERE status = ($1::text)::orders.order_status AND id > $2 ORDER BY id LIMIT $3) AS page
         ORDER BY id DESC LIMIT 1",
        status.as_str(),
        after,
        size,
    )
    .fetch_optional(db)
    .await
}

/// The orders in this state, of those after `after` up to `through`, that are not where all orders end: on a shelf.
pub(crate) async fn list_suspects(
    db: &PgPool,
    status: OrderStatus,
    after: Uuid,
    through: Uuid,
) -> sqlx::Result<Vec<Suspect>> {
    let rows = sqlx::query!(
        r#"SELECT id, ssd_id, barcode, quantity, status::text AS "status!", placed_at,
                  coalesce(completed_at, shipped_at, placed_at) AS "since!"
           FROM orders.product_orders AS placed
           WHERE status = ($1::text)::orders.order_status AND id > $2 AND id <= $3
             AND ($1 <> 'completed' OR NOT EXISTS (SELECT FROM users.deliveries WHERE order_id = placed.id))
           ORDER BY id"#,
        status.as_str(),
        after,
        through,
    )
    .fetch_all(db)
    .await?;
    rows.into_iter()
        .map(|row| {
            let order = order(row.id, row.ssd_id, &row.barcode, row.quantity, row.placed_at, &row.status)?;
            Ok(Suspect { order, since: row.since })
        })
        .collect()
}

/// When the oldest order of each state under way was placed; `None` where there is none.
pub(crate) async fn find_oldest(db: &PgPool) -> sqlx::Result<[(OrderStatus, Option<DateTime<Utc>>); 2]> {
    let row = sqlx::query!(
        "SELECT (SELECT placed_at FROM orders.product_orders WHERE status = 'pending' ORDER BY id LIMIT 1) AS pending,
                (SELECT placed_at FROM orders.product_orders WHERE status = 'shipped' ORDER BY id LIMIT 1) AS shipped"
    )
    .fetch_one(db)
    .await?;
    Ok([(OrderStatus::Pending, row.pending), (OrderStatus::Shipped, row.shipped)])
}

/// Whether the outbox of this service has a message of what happened at `time` or before.
pub(crate) async fn has_older_message(db: &PgPool, time: Option<DateTime<Utc>>) -> sqlx::Result<bool> {
    let found = sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT FROM outbox.messages WHERE source = 'orders' AND occurred_at <= $1) AS "found!""#,
        time,
    );
    found.fetch_one(db).await
}

/// A product that is still sold, each as likely as the other: numbers are drawn until one is a product's. Almost all are, so
/// that 32 draws are plenty; `None` is an empty catalogue or very bad luck.
pub(crate) async fn find_random_barcode(db: &PgPool) -> sqlx::Result<Option<Barcode>> {
    let barcode = sqlx::query_scalar!(
        // Looked up one by one, and only until there is one: OFFSET 0 leaves no other way to join.
        "WITH drawn AS MATERIALIZED (
             SELECT 1 + floor(random() * (SELECT max(number) FROM catalog.products))::bigint AS number
             FROM generate_series(1, 32)
         )
         SELECT found.barcode
         FROM drawn, LATERAL (SELECT barcode FROM catalog.products
                             WHERE products.number = drawn.number AND NOT products.obsolete OFFSET 0) AS found
         LIMIT 1"
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
