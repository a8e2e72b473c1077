//! Message handlers, one per subject.

use crate::{
    App, remind,
    store::{self, Consumption, Delivery},
};
use off_events::{Order, RandomDevice, RandomRequest, StockConsumed, StockLow};
use off_kit::{
    bus::{Batch, Failure},
    outbox::Entry,
};
use sqlx::PgConnection;

/// Attempts to find a random device before the response is that none is registered.
const MAX_ATTEMPTS: usize = 5;

/// `orders.random`: responds with a random device, unless the request names one.
pub(crate) async fn on_order_random(app: App, request: RandomRequest) -> anyhow::Result<Option<RandomDevice>> {
    if request.ssd_id.is_some() {
        return Ok(None);
    }
    for _ in 0..MAX_ATTEMPTS {
        if let Some(ssd_id) = store::find_random_device(&app.db).await? {
            return Ok(Some(RandomDevice { ssd_id: Some(ssd_id) }));
        }
    }
    Ok(Some(RandomDevice { ssd_id: None }))
}

/// `orders.completed`: adds the delivered units to the shelves, once per order.
pub(crate) async fn on_order_completed(app: App, orders: Batch<Order>) -> Result<(), Failure> {
    deliver(&app, &orders).await.map_err(into_failure)
}

async fn deliver(app: &App, orders: &Batch<Order>) -> sqlx::Result<()> {
    let deliveries: Vec<_> =
        orders.iter().map(|received| Delivery { order: &received.event, at: received.at }).collect();
    let mut tx = app.db.begin().await?;
    let new = store::insert_deliveries(&mut tx, &deliveries).await?;
    let new_indices: Vec<usize> = (0..orders.len()).filter(|&index| new.contains(&index)).collect();
    let keys = new_indices.iter().map(|&index| (orders[index].event.ssd_id, &orders[index].event.barcode));
    let mut items = store::lock_shelf_items(&mut tx, keys).await?;
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

/// `stock.consumed`: subtracts the consumed units from the shelves, once per report.
pub(crate) async fn on_stock_consumed(app: App, reports: Batch<StockConsumed>) -> Result<(), Failure> {
    if let Some(invalid) = reports.iter().find(|received| !has_valid_id(&received.event)) {
        return Err(Failure::Reject(format!(
            "the id of a report must have 1 to {} printable characters, but is '{}'",
            StockConsumed::MAX_ID_LENGTH,
            invalid.event.id.escape_debug()
        )));
    }
    consume(&app, &reports).await.map_err(into_failure)
}

async fn consume(app: &App, reports: &Batch<StockConsumed>) -> sqlx::Result<()> {
    let mut tx = app.db.begin().await?;
    let keys = reports.iter().map(|received| (received.event.ssd_id, &received.event.barcode));
    let mut items = store::lock_shelf_items(&mut tx, keys).await?;
    let mut known = store::list_known_consumptions(&mut tx, reports.iter().map(|received| &received.event)).await?;
    let mut low = Vec::new();
    let mut consumptions = Vec::new();
    for received in reports.iter() {
        let report = &received.event;
        if !known.insert((report.ssd_id, report.id.clone())) {
            continue;
        }
        let result = items.entry(report.ssd_id, &report.barcode).take(report.quantity, app.clock.now());
        low.extend(result.low.map(|event| (event, received.traceparent())));
        consumptions.push(Consumption { report, taken: result.taken });
    }
    store::insert_consumptions(&mut tx, &consumptions).await?;
    store::update_shelf_items(&mut tx, &items, remind::first_pause(app.clock)).await?;
    put_low(app, &mut tx, &low).await?;
    tx.commit().await?;
    app.outbox.wake();
    Ok(())
}

/// Names the unknown device or product, which the foreign keys of `shelf_items` find. Other errors: see
/// [`Failure::of_database`].
fn into_failure(error: sqlx::Error) -> Failure {
    match error.as_database_error().and_then(|error| error.constraint()) {
        Some(constraint) if constraint.ends_with("ssd_id_fkey") => {
            Failure::Reject("there is no such device".to_owned())
        }
        Some(constraint) if constraint.ends_with("barcode_fkey") => {
            Failure::Reject("the catalog has no such product".to_owned())
        }
        _ => Failure::of_database(error),
    }
}

fn has_valid_id(report: &StockConsumed) -> bool {
    let length = report.id.chars().count();
    (1..=StockConsumed::MAX_ID_LENGTH).contains(&length) && !report.id.chars().any(char::is_control)
}

/// Stores `stock.low` events, each with the trace of the message that caused it, in the transaction of their cause.
async fn put_low(app: &App, conn: &mut PgConnection, low: &[(StockLow, Option<String>)]) -> sqlx::Result<()> {
    let entries: Vec<_> = low
        .iter()
        .map(|(event, trace)| Entry { event, occurred_at: event.timestamp, traceparent: trace.clone() })
        .collect();
    app.outbox.put(conn, &entries).await
}
