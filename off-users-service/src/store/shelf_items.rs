//! Products on shelves. Batches are processed with a fixed number of statements.

use crate::domain::ShelfItem;
use chrono::{DateTime, Utc};
use off_events::{Barcode, InvalidValue, Order, SsdId, StockConsumed};
use off_kit::auth::RowAccess;
use sqlx::{PgConnection, PgPool};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    time::Duration,
};
use uuid::Uuid;

/// The units of a completed order, to be put on the shelf.
#[derive(Debug)]
pub(crate) struct Delivery<'a> {
    pub(crate) order: &'a Order,
    /// When the order was completed, not when its units reached the shelf.
    pub(crate) at: DateTime<Utc>,
}

/// Inserts deliveries that are not stored yet; returns their indices in `deliveries`. If an order occurs more than
/// once, its first occurrence counts.
pub(crate) async fn insert_deliveries(
    conn: &mut PgConnection,
    deliveries: &[Delivery<'_>],
) -> sqlx::Result<HashSet<usize>> {
    let mut indices: BTreeMap<Uuid, usize> = BTreeMap::new();
    for (index, delivery) in deliveries.iter().enumerate() {
        indices.entry(delivery.order.id.0).or_insert(index);
    }
    let (mut ids, mut ssd_ids, mut barcodes, mut quantities, mut times) = (vec![], vec![], vec![], vec![], vec![]);
    for (&id, &index) in &indices {
        let Delivery { order, at } = &deliveries[index];
        ids.push(id);
        ssd_ids.push(order.ssd_id.0);
        barcodes.push(order.barcode.as_str().to_owned());
        quantities.push(order.quantity.get());
        times.push(*at);
    }
    let new = sqlx::query_scalar!(
        "INSERT INTO users.deliveries (order_id, ssd_id, barcode, quantity, delivered_at)
         SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::int[], $5::timestamptz[])
         ON CONFLICT (order_id) DO NOTHING
         RETURNING order_id",
        &ids,
        &ssd_ids,
        &barcodes,
        &quantities,
        &times,
    )
    .fetch_all(conn)
    .await?;
    Ok(new.iter().filter_map(|id| indices.get(id).copied()).collect())
}

/// Shelf items whose rows are locked until the transaction ends.
#[derive(Debug)]
pub(crate) struct LockedShelfItems(HashMap<(SsdId, Barcode), ShelfItem>);

impl LockedShelfItems {
    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A product on a device's shelf; inserts it with quantity 0 if it is missing.
    pub(crate) fn entry(&mut self, ssd_id: SsdId, barcode: &Barcode) -> &mut ShelfItem {
        self.0.entry((ssd_id, barcode.clone())).or_insert_with(|| ShelfItem {
            ssd_id,
            barcode: barcode.clone(),
            quantity: 0,
            reorder_point: ShelfItem::REORDER_POINT,
            is_paused: false,
            low_since: None,
        })
    }
}

/// Locks the shelf items with these `keys` that are within `access`, and creates the missing ones. Always locks in the
/// same order, so that concurrent transactions do not deadlock.
pub(crate) async fn lock_shelf_items<'a>(
    conn: &mut PgConnection,
    keys: impl Iterator<Item = (SsdId, &'a Barcode)>,
    access: RowAccess,
) -> sqlx::Result<LockedShelfItems> {
    let keys: BTreeSet<(SsdId, &Barcode)> = keys.collect();
    let ssd_ids: Vec<i64> = keys.iter().map(|(ssd_id, _)| ssd_id.0).collect();
    let barcodes: Vec<String> = keys.iter().map(|(_, barcode)| barcode.as_str().to_owned()).collect();
    let (user, device, simulated) = access.columns();
    let sees_all = access == RowAccess::All;
    sqlx::query!(
        "INSERT INTO users.shelf_items (ssd_id, barcode, reorder_point)
         SELECT ssd_id, barcode, $3 FROM unnest($1::bigint[], $2::text[]) AS wanted (ssd_id, barcode)
         WHERE NOT EXISTS (SELECT FROM users.shelf_items AS shelf
                           WHERE shelf.ssd_id = wanted.ssd_id AND shelf.barcode = wanted.barcode)
           AND ($4 OR EXISTS (SELECT FROM users.devices
                              WHERE devices.id = wanted.ssd_id AND ($5::bigint IS NULL OR user_id = $5)
                                AND ($6::bigint IS NULL OR devices.id = $6)
                                AND ($7::bool IS NULL OR is_simulated = $7)))
         ORDER BY ssd_id, barcode
         ON CONFLICT (ssd_id, barcode) DO NOTHING",
        &ssd_ids,
        &barcodes,
        ShelfItem::REORDER_POINT,
        sees_all,
        user,
        device,
        simulated,
    )
    .execute(&mut *conn)
    .await?;
    let rows = sqlx::query!(
        "SELECT shelf.ssd_id, shelf.barcode, quantity, reorder_point, is_paused, low_since
         FROM users.shelf_items AS shelf
         JOIN unnest($1::bigint[], $2::text[]) AS wanted (ssd_id, barcode) USING (ssd_id, barcode)
         WHERE $3 OR EXISTS (SELECT FROM users.devices
                             WHERE devices.id = shelf.ssd_id AND ($4::bigint IS NULL OR user_id = $4)
                               AND ($5::bigint IS NULL OR devices.id = $5)
                               AND ($6::bool IS NULL OR is_simulated = $6))
         ORDER BY shelf.ssd_id, shelf.barcode
         FOR UPDATE OF shelf",
        &ssd_ids,
        &barcodes,
        sees_all,
        user,
        device,
        simulated,
    )
    .fetch_all(conn)
    .await?;
    let items = rows.into_iter().map(|row| {
        let item = shelf_item(row.ssd_id, &row.barcode, row.quantity, row.reorder_point, row.is_paused, row.low_since)?;
        Ok(((item.ssd_id, item.barcode.clone()), item))
    });
    Ok(LockedShelfItems(items.collect::<sqlx::Result<_>>()?))
}

/// How many products are on the shelf of a device.
pub(crate) async fn count_shelf_items(conn: &mut PgConnection, ssd_id: SsdId) -> sqlx::Result<i64> {
    let count =
        sqlx::query_scalar!(r#"SELECT count(*) AS "count!" FROM users.shelf_items WHERE ssd_id = $1"#, ssd_id.0);
    count.fetch_one(conn).await
}

/// Those of `barcodes` that the catalog does not have.
pub(crate) async fn list_unknown_products(db: &PgPool, barcodes: &[&Barcode]) -> sqlx::Result<HashSet<Barcode>> {
    let all: Vec<String> = barcodes.iter().map(|barcode| barcode.as_str().to_owned()).collect();
    let known = sqlx::query_scalar!("SELECT barcode FROM catalog.products WHERE barcode = ANY($1)", &all);
    let known: HashSet<String> = known.fetch_all(db).await?.into_iter().collect();
    Ok(barcodes.iter().filter(|barcode| !known.contains(barcode.as_str())).map(|&barcode| barcode.clone()).collect())
}

/// Builds a shelf item from its columns. Fails with a decode error if a value is not valid in the domain.
pub(super) fn shelf_item(
    ssd_id: i64,
    barcode: &str,
    quantity: i32,
    reorder_point: i32,
    is_paused: bool,
    low_since: Option<DateTime<Utc>>,
) -> sqlx::Result<ShelfItem> {
    let barcode: Barcode = barcode.parse().map_err(|error: InvalidValue| sqlx::Error::Decode(error.into()))?;
    Ok(ShelfItem { ssd_id: SsdId(ssd_id), barcode, quantity, reorder_point, is_paused, low_since })
}

/// Begins a new low period for the low products of these orders, which will not be delivered: `stock.low` is published
/// after `pause`, with a new event id, so that the device orders again. Each order has this effect once: afterwards it is
/// older than the period.
pub(crate) async fn postpone_low(
    db: &PgPool,
    orders: &[&Order],
    now: DateTime<Utc>,
    pause: Duration,
) -> sqlx::Result<()> {
    let ssd_ids: Vec<i64> = orders.iter().map(|order| order.ssd_id.0).collect();
    let barcodes: Vec<String> = orders.iter().map(|order| order.barcode.as_str().to_owned()).collect();
    let placed: Vec<DateTime<Utc>> = orders.iter().map(|order| order.timestamp).collect();
    sqlx::query!(
        "WITH ended AS MATERIALIZED (
             SELECT ssd_id, barcode, max(placed_at) AS placed_at
             FROM unnest($1::bigint[], $2::text[], $3::timestamptz[]) AS row (ssd_id, barcode, placed_at)
             GROUP BY ssd_id, barcode
         ), locked AS MATERIALIZED (
             SELECT ssd_id, barcode FROM ended JOIN users.shelf_items AS shelf USING (ssd_id, barcode)
             WHERE shelf.low_since <= ended.placed_at
             ORDER BY ssd_id, barcode FOR UPDATE OF shelf
         )
         UPDATE users.shelf_items AS shelf SET low_since = $4::timestamptz, remind_at = $4::timestamptz + make_interval(secs => $5)
         FROM locked WHERE (shelf.ssd_id, shelf.barcode) = (locked.ssd_id, locked.barcode)",
        &ssd_ids,
        &barcodes,
        &placed,
        now,
        pause.as_secs_f64(),
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Claims at most `limit` low shelf items whose reminder is due, and schedules their next reminders: when they have
/// been low for twice as long, but at most about `longest_pause` later. Replicas skip each other's locked rows.
pub(crate) async fn claim_low_shelf_items(
    db: &PgPool,
    longest_pause: Duration,
    limit: i64,
) -> sqlx::Result<Vec<ShelfItem>> {
    let rows = sqlx::query!(
        r#"WITH due AS MATERIALIZED (
               SELECT ssd_id, barcode FROM users.shelf_items
               WHERE remind_at <= now() ORDER BY remind_at LIMIT $1 FOR UPDATE SKIP LOCKED
           )
           UPDATE users.shelf_items AS shelf
           SET remind_at = now() + (1 + random() / 8)
               * least(greatest(now() - low_since, interval '10 seconds'), make_interval(secs => $2))
           FROM due WHERE shelf.ssd_id = due.ssd_id AND shelf.barcode = due.barcode
           RETURNING shelf.ssd_id, shelf.barcode, quantity, reorder_point, is_paused, low_since"#,
        limit,
        longest_pause.as_secs_f64(),
    )
    .fetch_all(db)
    .await?;
    rows.into_iter()
        .map(|row| shelf_item(row.ssd_id, &row.barcode, row.quantity, row.reorder_point, row.is_paused, row.low_since))
        .collect()
}

/// Makes reminders due now that are later than `longest_pause` allows: a clock was ahead. Returns their number.
pub(crate) async fn reset_distant_reminders(db: &PgPool, longest_pause: Duration, limit: i64) -> sqlx::Result<u64> {
    let reset = sqlx::query!(
        "UPDATE users.shelf_items SET remind_at = now()
         WHERE ctid = ANY (ARRAY(
             SELECT ctid FROM users.shelf_items
             WHERE remind_at > now() + make_interval(secs => $1) ORDER BY remind_at DESC LIMIT $2 FOR UPDATE SKIP LOCKED))",
        longest_pause.as_secs_f64() * 1.25,
        limit,
    );
    Ok(reset.execute(db).await?.rows_affected())
}

/// Schedules the next reminder after `pause`, for shelf items whose reminder the broker did not acknowledge.
pub(crate) async fn postpone_reminders(db: &PgPool, items: &[&ShelfItem], pause: Duration) -> sqlx::Result<()> {
    let ssd_ids: Vec<i64> = items.iter().map(|item| item.ssd_id.0).collect();
    let barcodes: Vec<String> = items.iter().map(|item| item.barcode.as_str().to_owned()).collect();
    sqlx::query!(
        "UPDATE users.shelf_items AS shelf SET remind_at = now() + make_interval(secs => $3)
         FROM unnest($1::bigint[], $2::text[]) AS wanted (ssd_id, barcode)
         WHERE shelf.ssd_id = wanted.ssd_id AND shelf.barcode = wanted.barcode AND low_since IS NOT NULL",
        &ssd_ids,
        &barcodes,
        pause.as_secs_f64(),
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Stores the new state of locked shelf items. An item that has become low gets its first reminder after `pause`.
pub(crate) async fn update_shelf_items(
    conn: &mut PgConnection,
    items: &LockedShelfItems,
    pause: Duration,
) -> sqlx::Result<()> {
    let (mut ssd_ids, mut barcodes, mut quantities, mut low_since) = (vec![], vec![], vec![], vec![]);
    let (mut reorder_points, mut paused) = (vec![], vec![]);
    for item in items.0.values() {
        reorder_points.push(item.reorder_point);
        paused.push(item.is_paused);
        ssd_ids.push(item.ssd_id.0);
        barcodes.push(item.barcode.as_str().to_owned());
        quantities.push(item.quantity);
        low_since.push(item.low_since);
    }
    sqlx::query!(
        "UPDATE users.shelf_items AS shelf
         SET quantity = new.quantity, low_since = new.low_since, reorder_point = new.reorder_point,
             is_paused = new.is_paused,
             remind_at = CASE WHEN new.low_since = shelf.low_since THEN shelf.remind_at
                              WHEN new.low_since IS NOT NULL THEN now() + make_interval(secs => $5) END
         FROM unnest($1::bigint[], $2::text[], $3::int[], $4::timestamptz[], $6::int[], $7::bool[])
              AS new (ssd_id, barcode, quantity, low_since, reorder_point, is_paused)
         WHERE shelf.ssd_id = new.ssd_id AND shelf.barcode = new.barcode",
        &ssd_ids,
        &barcodes,
        &quantities,
        &low_since as &[Option<DateTime<Utc>>],
        pause.as_secs_f64(),
        &reorder_points,
        &paused,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// The device and id of those reports that are already stored.
pub(crate) async fn list_known_consumptions<'a>(
    conn: &mut PgConnection,
    reports: impl Iterator<Item = &'a StockConsumed>,
) -> sqlx::Result<HashSet<(SsdId, String)>> {
    let (ssd_ids, ids): (Vec<i64>, Vec<String>) = reports.map(|report| (report.ssd_id.0, report.id.clone())).unzip();
    let known = sqlx::query!(
        "SELECT ssd_id, id FROM users.consumptions
         JOIN unnest($1::bigint[], $2::text[]) AS report (ssd_id, id) USING (ssd_id, id)",
        &ssd_ids,
        &ids,
    )
    .fetch_all(conn)
    .await?;
    Ok(known.into_iter().map(|row| (SsdId(row.ssd_id), row.id)).collect())
}

/// A report, with the units that were actually taken.
#[derive(Debug)]
pub(crate) struct Consumption<'a> {
    pub(crate) report: &'a StockConsumed,
    pub(crate) taken: i32,
}

/// Inserts new reports. Fails if a concurrent transaction has inserted one of them. That is possible only if two
/// reports with the same id name different products, so that the transactions locked different items.
pub(crate) async fn insert_consumptions(conn: &mut PgConnection, consumptions: &[Consumption<'_>]) -> sqlx::Result<()> {
    let (mut ssd_ids, mut ids, mut barcodes, mut quantities) = (vec![], vec![], vec![], vec![]);
    let (mut taken, mut times) = (vec![], vec![]);
    for Consumption { report, taken: units } in consumptions {
        ssd_ids.push(report.ssd_id.0);
        ids.push(report.id.clone());
        barcodes.push(report.barcode.as_str().to_owned());
        quantities.push(report.quantity.get());
        taken.push(*units);
        times.push(report.timestamp);
    }
    sqlx::query!(
        "INSERT INTO users.consumptions (ssd_id, id, barcode, quantity, taken, consumed_at)
         SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[], $4::int[], $5::int[], $6::timestamptz[])",
        &ssd_ids,
        &ids,
        &barcodes,
        &quantities,
        &taken,
        &times,
    )
    .execute(conn)
    .await?;
    Ok(())
}
