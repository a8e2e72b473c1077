//! Message handlers, one per subject.

use crate::{
    App,
    domain::is_report_id,
    remind,
    shelves::{self, Unknown},
    store,
};
use off_events::{Order, RandomDevice, RandomRequest, StockConsumed};
use off_kit::{
    auth::RowAccess,
    bus::{Batch, Failure},
};

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
    shelves::deliver(&app, &orders).await.map_err(into_failure)
}

/// `orders.refused` and `orders.cancelled`: no delivery follows, so that the device orders again after a while.
pub(crate) async fn on_order_ended(app: App, orders: Batch<Order>) -> Result<(), Failure> {
    let (now, pause) = (app.clock.now(), remind::order_again_pause(app.clock));
    let orders: Vec<&Order> = orders.iter().map(|received| &received.event).collect();
    store::postpone_low(&app.db, &orders, now, pause).await.map_err(Failure::of_database)
}

/// `stock.consumed`: subtracts the consumed units from the shelves, once per report.
pub(crate) async fn on_stock_consumed(app: App, reports: Batch<StockConsumed>) -> Result<(), Failure> {
    if let Some(invalid) = reports.iter().find(|received| !is_report_id(&received.event.id)) {
        return Err(Failure::Reject(format!(
            "the id of a report must have 1 to {} printable characters, but is '{}'",
            StockConsumed::MAX_ID_LENGTH,
            invalid.event.id.escape_debug()
        )));
    }
    let events = reports.iter().map(|received| &received.event);
    let consumed = shelves::consume(&app, events, |index| reports[index].traceparent(), RowAccess::All).await;
    consumed.map(drop).map_err(into_failure)
}

/// Names the unknown device or product. Other errors: see [`Failure::of_database`].
fn into_failure(error: sqlx::Error) -> Failure {
    match Unknown::of(&error) {
        Some(Unknown::Device) => Failure::Reject("there is no such device".to_owned()),
        Some(Unknown::Product) => Failure::Reject("the catalog has no such product".to_owned()),
        None => Failure::of_database(error),
    }
}
