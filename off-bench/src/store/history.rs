//! Orders of the past with everything that follows from them: money, deliveries, consumptions, shelves and events.

use anyhow::Context;
use chrono::{DateTime, Utc};
use futures::{Stream, TryStreamExt};
use off_events::{Barcode, Money, Order, OrderId, OrderStatus, Quantity, SsdId, UserId};
use sqlx::PgPool;
use uuid::Uuid;

/// Stores `count` orders that ended, numbered from `first`: of ten, one was refused, one cancelled and eight completed.
pub async fn store_ended(db: &PgPool, first: i64, count: i64, devices: i64, products: i64) -> sqlx::Result<()> {
    // UUIDs of version 7, one for each millisecond since 2023-11-14.
    sqlx::query(
        "INSERT INTO orders.product_orders
             (id, ssd_id, user_id, barcode, quantity, unit_price, status, placed_at, paid_at, shipped_at, completed_at,
              ended_at, missing)
         SELECT (lpad(to_hex(1700000000000 + n), 12, '0') || '70008000' || lpad(to_hex(n), 12, '0'))::uuid,
                1 + n * 7919 % $3, 1 + n * 7919 % $3,
                lpad((1 + n * 104729 % $4)::text, 13, '2000000000000'), 2, 299, status, placed_at,
                CASE WHEN status <> 'refused' THEN placed_at END,
                CASE WHEN status = 'completed' THEN placed_at + interval '1 minute' END,
                CASE WHEN status = 'completed' THEN placed_at + interval '2 minutes' END,
                CASE WHEN status <> 'completed' THEN placed_at + interval '1 second' END,
                CASE WHEN status = 'refused' THEN 1 END
         FROM generate_series($1, $1 + $2 - 1) AS n,
              LATERAL (SELECT to_timestamp((1700000000000 + n) / 1000.0) AS placed_at,
                              (CASE n % 10 WHEN 0 THEN 'refused' WHEN 1 THEN 'cancelled' ELSE 'completed' END)
                                  ::orders.order_status AS status) AS ended",
    )
    .bind(first)
    .bind(count)
    .bind(devices)
    .bind(products)
    .execute(db)
    .await?;
    Ok(())
}

/// Stores the money, the letters, the deliveries, the consumptions and the shelves of all orders of [`store_ended`].
pub async fn settle_ended(db: &PgPool) -> sqlx::Result<()> {
    for statement in [
        "INSERT INTO billing.transfers (subject, kind, debit_account, credit_account, amount, at)
         SELECT id, kind::billing.transfer_kind, CASE kind WHEN 'charge' THEN user_id ELSE -1 END,
                CASE kind WHEN 'charge' THEN -1 WHEN 'earning' THEN -2 ELSE user_id END, unit_price * quantity, paid_at
         FROM orders.product_orders, unnest('{charge,earning,refund}'::text[]) AS kind
         WHERE status <> 'refused'
           AND kind <> CASE status WHEN 'completed' THEN 'refund' WHEN 'cancelled' THEN 'earning' ELSE kind END",
        "INSERT INTO billing.refusals (order_id, user_id, reason, missing, at)
         SELECT id, user_id, 'insufficient_funds', missing, ended_at FROM orders.product_orders WHERE status = 'refused'",
        "UPDATE billing.accounts SET balance = balance - spent.amount
         FROM (SELECT user_id, sum(unit_price * quantity)::bigint AS amount FROM orders.product_orders
               WHERE status = 'completed' GROUP BY user_id) AS spent
         WHERE accounts.user_id = spent.user_id",
        "INSERT INTO users.deliveries (order_id, ssd_id, barcode, quantity, delivered_at)
         SELECT id, ssd_id, barcode, quantity, completed_at FROM orders.product_orders WHERE status = 'completed'",
        "INSERT INTO letters.letters (subject, kind, user_id, barcode, quantity, total, missing, written_at)
         SELECT id, kind::letters.letter_kind, user_id, barcode, quantity, unit_price * quantity, missing, placed_at
         FROM orders.product_orders,
              unnest(CASE status WHEN 'completed' THEN '{paid,delivered}' WHEN 'cancelled' THEN '{paid,cancelled}'
                                 ELSE '{refused}' END::text[]) AS kind",
        "INSERT INTO users.consumptions (ssd_id, id, barcode, quantity, taken, consumed_at)
         SELECT ssd_id, order_id, barcode, 1, 1, delivered_at FROM users.deliveries",
        "INSERT INTO users.shelf_items (ssd_id, barcode, quantity, reorder_point)
         SELECT ssd_id, barcode, sum(quantity) - count(*), 0 FROM users.deliveries GROUP BY ssd_id, barcode",
    ] {
        sqlx::query(statement).execute(db).await?;
    }
    Ok(())
}

/// The newest order of a person.
pub async fn newest_order_of(db: &PgPool, person: i64) -> sqlx::Result<Uuid> {
    sqlx::query_scalar("SELECT id FROM orders.product_orders WHERE user_id = $1 ORDER BY id DESC LIMIT 1")
        .bind(person)
        .fetch_one(db)
        .await
}

#[derive(sqlx::FromRow)]
struct Row {
    id: Uuid,
    ssd_id: i64,
    user_id: i64,
    barcode: String,
    quantity: i32,
    unit_price: i64,
    placed_at: DateTime<Utc>,
}

/// All orders as they were placed.
pub fn list_placed(db: &PgPool) -> impl Stream<Item = anyhow::Result<Order>> + '_ {
    let rows = sqlx::query_as::<_, Row>(
        "SELECT id, ssd_id, user_id, barcode, quantity, unit_price, placed_at FROM orders.product_orders",
    );
    rows.fetch(db).map_err(anyhow::Error::from).and_then(async |row| {
        let (quantity, unit_price) = (Quantity::try_from(i64::from(row.quantity))?, Money::from_cents(row.unit_price)?);
        Ok(Order {
            id: OrderId(row.id),
            ssd_id: SsdId(row.ssd_id),
            user_id: UserId(row.user_id),
            barcode: Barcode::try_from(row.barcode)?,
            timestamp: row.placed_at,
            quantity,
            unit_price,
            total: unit_price.checked_mul(quantity).context("the price is too large")?,
            status: OrderStatus::Pending,
            refusal: None,
        })
    })
}
