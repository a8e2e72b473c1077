//! One function per subject it listens to.

use crate::{
    App, remind,
    store::{self, Consumption, Delivery},
};
use off_events::{Order, RandomQuestion, RandomSsd, StockConsumed, StockLow};
use off_kit::{
    bus::{Batch, Failure},
    outbox::Entry,
};
use sqlx::PgConnection;

/// How often a device is drawn before it counts as none being registered.
const DRAWS: usize = 5;

/// `orders.random`: answers with a device, unless the question names one.
pub(crate) async fn on_order_random(app: App, question: RandomQuestion) -> anyhow::Result<Option<RandomSsd>> {
    if question.ssd_id.is_some() {
        return Ok(None);
    }
    for _ in 0..DRAWS {
        if let Some(ssd_id) = store::find_random_ssd(&app.db).await? {
            return Ok(Some(RandomSsd { ssd_id: Some(ssd_id) }));
        }
    }
    Ok(Some(RandomSsd { ssd_id: None }))
}

/// `orders.completed`: puts deliveries on their shelves, each order's once.
pub(crate) async fn on_order_completed(app: App, orders: Batch<Order>) -> Result<(), Failure> {
    deliver(&app, &orders).await.map_err(explain)
}

async fn deliver(app: &App, orders: &Batch<Order>) -> sqlx::Result<()> {
    let deliveries: Vec<_> =
        orders.iter().map(|received| Delivery { order: &received.event, at: received.at }).collect();
    let mut tx = app.db.begin().await?;
    let new = store::insert_deliveries(&mut tx, &deliveries).await?;
    let fresh: Vec<usize> = (0..orders.len()).filter(|&index| new.contains(&index)).collect();
    let keys = fresh.iter().map(|&index| (orders[index].event.ssd_id, &orders[index].event.product_id));
    let mut shelves = store::lock_shelves(&mut tx, keys).await?;
    let mut low = Vec::new();
    for index in fresh {
        let order = &orders[index].event;
        let shelf = shelves.entry(order.ssd_id, &order.product_id);
        let said = shelf.put(order.quantity, app.clock.now());
        low.extend(said.map(|event| (event, orders[index].traceparent())));
    }
    store::update_shelves(&mut tx, &shelves, remind::first_pause(app.clock)).await?;
    announce(app, &mut tx, &low).await?;
    tx.commit().await?;
    app.outbox.wake();
    Ok(())
}

/// `stock.consumed`: takes what was eaten off its shelf, each report once.
pub(crate) async fn on_stock_consumed(app: App, reports: Batch<StockConsumed>) -> Result<(), Failure> {
    if let Some(unusable) = reports.iter().find(|received| !has_usable_id(&received.event)) {
        return Err(Failure::Reject(format!(
            "the id of a report is 1 to {} printable characters, not '{}'",
            StockConsumed::MAX_ID_LENGTH,
            unusable.event.id.escape_debug()
        )));
    }
    consume(&app, &reports).await.map_err(explain)
}

async fn consume(app: &App, reports: &Batch<StockConsumed>) -> sqlx::Result<()> {
    let mut tx = app.db.begin().await?;
    let keys = reports.iter().map(|received| (received.event.ssd_id, &received.event.barcode));
    let mut shelves = store::lock_shelves(&mut tx, keys).await?;
    let mut known = store::list_known_consumptions(&mut tx, reports.iter().map(|received| &received.event)).await?;
    let mut low = Vec::new();
    let mut consumptions = Vec::new();
    for received in reports.iter() {
        let report = &received.event;
        if !known.insert((report.ssd_id, report.id.clone())) {
            continue;
        }
        let take = shelves.entry(report.ssd_id, &report.barcode).take(report.quantity, app.clock.now());
        low.extend(take.low.map(|event| (event, received.traceparent())));
        consumptions.push(Consumption { report, taken: take.taken });
    }
    store::insert_consumptions(&mut tx, &consumptions).await?;
    store::update_shelves(&mut tx, &shelves, remind::first_pause(app.clock)).await?;
    announce(app, &mut tx, &low).await?;
    tx.commit().await?;
    app.outbox.wake();
    Ok(())
}

/// Says in words which reference of a message leads nowhere.
fn explain(error: sqlx::Error) -> Failure {
    match error.as_database_error().and_then(|error| error.constraint()) {
        Some(constraint) if constraint.ends_with("ssd_id_fkey") => {
            Failure::Reject("there is no such device".to_owned())
        }
        Some(constraint) if constraint.ends_with("barcode_fkey") => {
            Failure::Reject("the catalogue has no such product".to_owned())
        }
        _ => error.into(),
    }
}

fn has_usable_id(report: &StockConsumed) -> bool {
    let length = report.id.chars().count();
    (1..=StockConsumed::MAX_ID_LENGTH).contains(&length) && !report.id.chars().any(char::is_control)
}

async fn announce(app: &App, conn: &mut PgConnection, low: &[(StockLow, Option<String>)]) -> sqlx::Result<()> {
    let entries: Vec<_> = low
        .iter()
        .map(|(event, trace)| Entry { event, occurred_at: event.timestamp, traceparent: trace.clone() })
        .collect();
    if entries.is_empty() {
        return Ok(());
    }
    app.outbox.put(conn, &entries).await
}
