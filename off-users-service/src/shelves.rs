//! Changes shelves: deliveries and consumption, each batch in one transaction with the `stock.low` events that follow.

use crate::{
    App,
    domain::ShelfItem,
    remind,
    store::{self, Consumption, Delivery},
};
use metrics::counter;
use off_events::{Barcode, Order, SsdId, StockConsumed, StockLow};
use off_kit::{auth::RowAccess, bus::Batch, outbox::Entry, telemetry};
use sqlx::PgConnection;
use std::time::Duration;

/// A report whose time differs by more than this from the clock is late, or of a wrong clock. In simulated time.
const TIME_TOLERANCE: Duration = Duration::from_mins(5);

/// At a high speed, this is the tolerance: messages wait for some time, in real time.
const MIN_TIME_TOLERANCE: Duration = Duration::from_secs(1);

/// Adds the units of completed orders, once per order.
pub(crate) async fn deliver(app: &App, orders: &Batch<Order>) -> sqlx::Result<()> {
    let deliveries: Vec<_> =
        orders.iter().map(|received| Delivery { order: &received.event, at: received.at }).collect();
    let mut tx = app.db.begin().await?;
    let new = store::insert_deliveries(&mut tx, &deliveries).await?;
    let new_indices: Vec<usize> = (0..orders.len()).filter(|&index| new.contains(&index)).collect();
    let keys = new_indices.iter().map(|&index| (orders[index].event.ssd_id, &orders[index].event.barcode));
    let mut items = store::lock_shelf_items(&mut tx, keys, RowAccess::All).await?;
    let mut low = Vec::new();
    for index in new_indices {
        let order = &orders[index].event;
        let item = items.entry(order.ssd_id, &order.barcode);
        let event = item.put(order.quantity, app.clock.now());
        low.extend(event.map(|event| (event, orders[index].traceparent())));
    }
    store::update_shelf_items(&mut tx, &items, remind::first_pause(app.clock)).await?;
    put_low(app, &mut tx, &low).await?;
    tx.commit().await?;
    app.outbox.wake();
    Ok(())
}

/// How many reports of a batch counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Consumed {
    /// Reports that were new.
    pub(crate) accepted: usize,
    /// Reports that were known, and had no effect.
    pub(crate) repeated: usize,
}

/// Subtracts the units of `reports`, once per device and id. `traceparent` is the trace of a report. `None`, and no
/// effect, if no device of the reports is within `access`.
pub(crate) async fn consume<'a>(
    app: &App,
    reports: impl Iterator<Item = &'a StockConsumed> + Clone,
    traceparent: impl Fn(usize) -> Option<String>,
    access: RowAccess,
) -> sqlx::Result<Option<Consumed>> {
    let mut tx = app.db.begin().await?;
    let keys = reports.clone().map(|report| (report.ssd_id, &report.barcode));
    let mut items = store::lock_shelf_items(&mut tx, keys, access).await?;
    if items.is_empty() {
        return Ok(None);
    }
    let mut known = store::list_known_consumptions(&mut tx, reports.clone()).await?;
    let (mut low, mut consumptions, mut repeated) = (Vec::new(), Vec::new(), 0);
    for (index, report) in reports.enumerate() {
        if !known.insert((report.ssd_id, report.id.clone())) {
            repeated += 1;
            continue;
        }
        let result = items.entry(report.ssd_id, &report.barcode).take(report.quantity, app.clock.now());
        low.extend(result.low.map(|event| (event, traceparent(index))));
        consumptions.push(Consumption { report, taken: result.taken });
    }
    store::insert_consumptions(&mut tx, &consumptions).await?;
    store::update_shelf_items(&mut tx, &items, remind::first_pause(app.clock)).await?;
    put_low(app, &mut tx, &low).await?;
    tx.commit().await?;
    app.outbox.wake();
    count(app, &consumptions, repeated);
    Ok(Some(Consumed { accepted: consumptions.len(), repeated }))
}

/// Counts the reports of a batch, and those that are late or of a wrong clock.
fn count(app: &App, new: &[Consumption<'_>], repeated: usize) {
    counter!("off_consumption_reports_total", "outcome" => "new").increment(new.len() as u64);
    counter!("off_consumption_reports_total", "outcome" => "repeated").increment(repeated as u64);
    let (now, tolerance) = (app.clock.now(), app.clock.real_wait(TIME_TOLERANCE).max(MIN_TIME_TOLERANCE));
    let is_out_of_time = |report: &&Consumption<'_>| {
        let difference = (now - report.report.timestamp).abs();
        difference.to_std().is_ok_and(|difference| difference > tolerance)
    };
    let out_of_time = new.iter().filter(is_out_of_time).count();
    counter!("off_consumption_reports_out_of_time_total").increment(out_of_time as u64);
}

/// Why the item of a shelf was not changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChangeError {
    /// There is no such device within the access of the caller.
    #[error("no such device")]
    NoDevice,
    /// The shelf has too many products.
    #[error("the shelf is full")]
    Full,
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

/// Changes when a product on the shelf of a device within `access` is reordered; puts it on the shelf if it is not there.
pub(crate) async fn change(
    app: &App,
    ssd_id: SsdId,
    barcode: &Barcode,
    access: RowAccess,
    reorder_point: Option<i32>,
    is_paused: Option<bool>,
) -> Result<ShelfItem, ChangeError> {
    let mut tx = app.db.begin().await?;
    let mut items = store::lock_shelf_items(&mut tx, std::iter::once((ssd_id, barcode)), access).await?;
    if items.is_empty() {
        return Err(ChangeError::NoDevice);
    }
    if store::count_shelf_items(&mut tx, ssd_id).await? > ShelfItem::MAX_ON_SHELF {
        return Err(ChangeError::Full);
    }
    let item = items.entry(ssd_id, barcode);
    let (point, paused) = (reorder_point.unwrap_or(item.reorder_point), is_paused.unwrap_or(item.is_paused));
    let low = item.change(point, paused, app.clock.now()).map(|event| (event, telemetry::current_traceparent()));
    let changed = item.clone();
    store::update_shelf_items(&mut tx, &items, remind::first_pause(app.clock)).await?;
    put_low(app, &mut tx, low.as_slice()).await?;
    tx.commit().await?;
    app.outbox.wake();
    Ok(changed)
}

/// Stores `stock.low` events, each with the trace of what caused it, in the transaction of their cause.
async fn put_low(app: &App, conn: &mut PgConnection, low: &[(StockLow, Option<String>)]) -> sqlx::Result<()> {
    let entries: Vec<_> = low
        .iter()
        .map(|(event, trace)| Entry { event, occurred_at: event.timestamp, traceparent: trace.clone() })
        .collect();
    app.outbox.put(conn, &entries).await
}

/// A device or product of a batch that does not exist, which the foreign keys of `shelf_items` find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unknown {
    Device,
    Product,
}

impl Unknown {
    /// `None` for other errors.
    pub(crate) fn of(error: &sqlx::Error) -> Option<Self> {
        match error.as_database_error()?.constraint()? {
            constraint if constraint.ends_with("ssd_id_fkey") => Some(Self::Device),
            constraint if constraint.ends_with("barcode_fkey") => Some(Self::Product),
            _ => None,
        }
    }
}
