//! Deliveries and consumption of a shelf by time.

use crate::domain::{Change, Changes, Period};
use chrono::{DateTime, Utc};
use off_events::{Barcode, InvalidValue, OrderId, SsdId};
use off_kit::auth::RowAccess;
use sqlx::PgPool;
use std::collections::HashMap;

/// The changes of each product of a device since the beginning of a period, by part of the period.
pub(crate) async fn list_changes(db: &PgPool, ssd_id: SsdId, period: Period) -> sqlx::Result<HashMap<String, Changes>> {
    let rows = sqlx::query!(
        r#"SELECT barcode AS "barcode!", part AS "part!", sum(delivered)::bigint AS "delivered!",
                  sum(taken)::bigint AS "taken!"
           FROM (
               SELECT barcode, delivered_at AS at, quantity AS delivered, 0 AS taken
               FROM users.deliveries WHERE ssd_id = $1 AND delivered_at > $2
               UNION ALL
               SELECT barcode, consumed_at, 0, taken
               FROM users.consumptions WHERE ssd_id = $1 AND consumed_at > $2
           ) AS change
           CROSS JOIN LATERAL (
               SELECT least($4::int, floor(extract(epoch FROM at - $2) / extract(epoch FROM $3::timestamptz - $2)
                                           * $4::int)::int) AS part
           ) AS bucket
           GROUP BY barcode, part"#,
        ssd_id.0,
        period.from,
        period.until,
        i32::try_from(period.parts).unwrap_or(i32::MAX),
    );
    let mut changes: HashMap<String, Changes> = HashMap::new();
    for row in rows.fetch_all(db).await? {
        let part = u32::try_from(row.part).unwrap_or_default();
        let change = Change { delivered: row.delivered, taken: row.taken };
        changes.entry(row.barcode).or_default().insert(part, change);
    }
    Ok(changes)
}

/// A delivery, and the units on the shelf after it.
#[derive(Debug)]
pub(crate) struct FoundDelivery {
    pub(crate) barcode: Barcode,
    pub(crate) quantity: i32,
    pub(crate) delivered_at: DateTime<Utc>,
    pub(crate) after: i64,
}

/// The delivery of an order to a device within `access`. The units after it follow from those that are there now, and from
/// what came and went since.
pub(crate) async fn find_delivery(
    db: &PgPool,
    ssd_id: SsdId,
    order: OrderId,
    access: RowAccess,
) -> sqlx::Result<Option<FoundDelivery>> {
    let (user, device, simulated) = access.columns();
    let row = sqlx::query!(
        r#"SELECT delivery.barcode, delivery.quantity, delivered_at,
                  shelf.quantity
                      - (SELECT coalesce(sum(later.quantity), 0) FROM users.deliveries AS later
                         WHERE later.ssd_id = delivery.ssd_id AND later.barcode = delivery.barcode
                           AND later.delivered_at >= delivery.delivered_at
                           AND (later.delivered_at, later.order_id) > (delivery.delivered_at, delivery.order_id))
                      + (SELECT coalesce(sum(taken), 0) FROM users.consumptions AS consumed
                         WHERE consumed.ssd_id = delivery.ssd_id AND consumed.barcode = delivery.barcode
                           AND consumed_at > delivery.delivered_at) AS "after!"
           FROM users.deliveries AS delivery
           JOIN users.shelf_items AS shelf USING (ssd_id, barcode)
           JOIN users.devices ON devices.id = delivery.ssd_id
           WHERE order_id = $1 AND delivery.ssd_id = $2 AND ($3::bigint IS NULL OR user_id = $3)
             AND ($4::bigint IS NULL OR devices.id = $4) AND ($5::bool IS NULL OR is_simulated = $5)"#,
        order.0,
        ssd_id.0,
        user,
        device,
        simulated,
    )
    .fetch_optional(db)
    .await?;
    row.map(|row| {
        let barcode = row.barcode.parse().map_err(|error: InvalidValue| sqlx::Error::Decode(error.into()))?;
        Ok(FoundDelivery { barcode, quantity: row.quantity, delivered_at: row.delivered_at, after: row.after })
    })
    .transpose()
}

/// The name of a product.
pub(crate) async fn find_product_name(db: &PgPool, barcode: &Barcode) -> sqlx::Result<Option<String>> {
    let name = sqlx::query_scalar!("SELECT name FROM catalog.products WHERE barcode = $1", barcode.as_str());
    name.fetch_optional(db).await
}
