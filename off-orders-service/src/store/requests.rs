//! Inserting requested orders.

use super::{CLOCK_TOLERANCE, OrderRow, unreadable};
use crate::{deadlines::TimeLimits, domain::OrderRequest};
use chrono::{DateTime, Utc};
use off_events::{Money, Order, OrderId, OrderStatus, UserId};
use sqlx::PgConnection;
use std::collections::HashMap;
use uuid::Uuid;

/// What an order got when it was inserted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Priced {
    /// The owner of its device.
    pub(crate) user_id: UserId,
    pub(crate) unit_price: Money,
}

/// Inserts the requests whose device and product exist, whose caller may order for the device, whose key is new, whose
/// price is the expected one and whose timestamp is within [`CLOCK_TOLERANCE`], each with the deadline of its first step.
/// Returns the inserted orders. One statement, so that a batch costs one transaction and one round trip.
pub(crate) async fn insert_orders(
    conn: &mut PgConnection,
    requests: &[OrderRequest],
    limits: TimeLimits,
) -> sqlx::Result<HashMap<OrderId, Priced>> {
    let columns = Columns::of(requests);
    let rows = sqlx::query!(
        // OFFSET 0 leaves only one plan: one index lookup per request costs the same regardless of table sizes and
        // statistics.
        "INSERT INTO orders.product_orders
             (id, ssd_id, user_id, barcode, quantity, unit_price, placed_at, idempotency_key, deadline)
         SELECT request.id, ssd_id, user_id, barcode, quantity, price_cents, placed_at, idempotency_key,
                now() + make_interval(secs => $7)
         FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::int[], $5::timestamptz[], $6::text[],
                     $9::bigint[], $10::bigint[], $11::bool[], $12::bigint[])
              AS request (id, ssd_id, barcode, quantity, placed_at, idempotency_key, of_user, of_device, of_simulated,
                          expected_total)
              CROSS JOIN LATERAL (
                  SELECT user_id FROM users.devices
                  WHERE devices.id = request.ssd_id
                    AND (of_user IS NULL OR devices.user_id = of_user)
                    AND (of_device IS NULL OR devices.id = of_device)
                    AND (of_simulated IS NULL OR devices.is_simulated = of_simulated) OFFSET 0) AS device
              CROSS JOIN LATERAL (
                  SELECT price_cents FROM catalog.products
                  WHERE products.barcode = request.barcode OFFSET 0) AS product
         WHERE abs(extract(epoch FROM request.placed_at - now())::float8) < $8
           AND (expected_total IS NULL OR expected_total = price_cents * quantity)
         -- Concurrent transactions insert the same keys in the same order, so they do not deadlock.
         ORDER BY request.ssd_id, request.idempotency_key
         ON CONFLICT (ssd_id, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING
         RETURNING id, user_id, unit_price",
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
        &columns.expected_totals as &[Option<i64>],
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter()
        .map(|row| {
            let unit_price = Money::from_cents(row.unit_price).map_err(unreadable)?;
            Ok((OrderId(row.id), Priced { user_id: UserId(row.user_id), unit_price }))
        })
        .collect()
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
    /// The price of the order, if the client expected another one.
    pub(crate) differing_total: Option<Money>,
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
                  product.price_cents IS NOT NULL AS "product_exists!",
                  abs(extract(epoch FROM request.placed_at - now())::float8) < $6 AS "is_timely!",
                  CASE WHEN expected_total <> product.price_cents * request.quantity
                       THEN product.price_cents * request.quantity END AS differing_total,
                  placed.id AS "id?", placed.ssd_id AS "ssd_id?", placed.user_id AS "user_id?",
                  placed.barcode AS "barcode?", placed.quantity AS "quantity?", placed.unit_price AS "unit_price?",
                  placed.placed_at AS "placed_at?"
           FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::text[], $5::timestamptz[],
                       $7::bigint[], $8::bigint[], $9::bool[], $10::int[], $11::bigint[])
                AS request (id, ssd_id, barcode, idempotency_key, placed_at, of_user, of_device, of_simulated, quantity,
                            expected_total)
           LEFT JOIN LATERAL (
               SELECT price_cents FROM catalog.products WHERE products.barcode = request.barcode OFFSET 0
           ) AS product ON true
           LEFT JOIN LATERAL (
               SELECT id, ssd_id, user_id, barcode, quantity, unit_price, placed_at FROM orders.product_orders
               WHERE product_orders.ssd_id = request.ssd_id
                 AND product_orders.idempotency_key = request.idempotency_key OFFSET 0
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
        &columns.quantities,
        &columns.expected_totals as &[Option<i64>],
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter()
        .map(|row| {
            let placed = (row.id, row.ssd_id, row.user_id, row.barcode, row.quantity, row.unit_price, row.placed_at);
            let earlier_order = match placed {
                (
                    Some(id),
                    Some(ssd_id),
                    Some(user_id),
                    Some(barcode),
                    Some(quantity),
                    Some(unit_price),
                    Some(placed_at),
                ) => {
                    let status = OrderStatus::Pending.as_str().to_owned();
                    let missing = None;
                    let row =
                        OrderRow { id, ssd_id, user_id, barcode, quantity, unit_price, status, placed_at, missing };
                    Some(row.into_order()?)
                }
                _ => None,
            };
            Ok(InsertConflict {
                id: OrderId(row.request_id),
                ssd_exists: row.ssd_exists,
                product_exists: row.product_exists,
                is_timely: row.is_timely,
                differing_total: row.differing_total.map(Money::from_cents).transpose().map_err(unreadable)?,
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
    expected_totals: Vec<Option<i64>>,
    /// The access of each caller: its person, its device, and whether it is limited to simulated devices.
    of_users: Vec<Option<i64>>,
    of_devices: Vec<Option<i64>>,
    of_simulated: Vec<Option<bool>>,
}

impl Columns {
    fn of<'a>(requests: impl IntoIterator<Item = &'a OrderRequest>) -> Self {
        let mut columns = Self::default();
        for OrderRequest { draft, key, access } in requests {
            columns.ids.push(draft.id.0);
            columns.ssd_ids.push(draft.ssd_id.0);
            columns.barcodes.push(draft.barcode.as_str().to_owned());
            columns.quantities.push(draft.quantity.get());
            columns.times.push(draft.timestamp);
            columns.keys.push(key.as_ref().map(|key| key.as_str().to_owned()));
            columns.expected_totals.push(draft.expected_total.map(Money::cents));
            let (user, device, simulated) = access.columns();
            columns.of_users.push(user);
            columns.of_devices.push(device);
            columns.of_simulated.push(simulated);
        }
        columns
    }
}
