//! Message handlers, one per subject.

use crate::{
    App,
    api::ApiError,
    domain::{is_generated_address, restock_quantity},
    stats::RESTOCK,
};
use futures::{StreamExt, stream};
use off_events::{Event, SsdId, StockLow};
use off_kit::bus::{Batch, Failure, Received};
use tokio::time::Instant;
use tracing::{Instrument, debug};

/// Maximum number of orders per batch that are placed concurrently.
const MAX_CONCURRENT: usize = 32;

/// `stock.low`: a device of a generated household orders. The event id is the idempotency key, so that the device
/// orders once.
pub(crate) async fn on_stock_low(app: App, batch: Batch<StockLow>) -> Result<(), Failure> {
    let outcomes: Vec<Result<(), Failure>> = stream::iter(0..batch.len())
        .map(|index| {
            let (app, batch) = (app.clone(), batch.clone());
            let span = batch[index].own_span();
            async move { restock(&app, &batch[index]).await }.instrument(span)
        })
        .buffer_unordered(MAX_CONCURRENT)
        .collect()
        .await;
    outcomes.into_iter().collect()
}

async fn restock(app: &App, received: &Received<StockLow>) -> Result<(), Failure> {
    let low = &received.event;
    if !is_generated_device(app, low.ssd_id).await? {
        return Ok(());
    }
    let started = Instant::now();
    let quantity = restock_quantity(app.seed, low);
    let outcome = app.api.place_order(&low.event_id(), low.ssd_id, &low.barcode, quantity).await;
    app.stats.record(RESTOCK, started.elapsed(), &outcome);
    Ok(outcome?)
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        match error {
            ApiError::Rejected { .. } => Self::Reject(error.to_string()),
            ApiError::Unavailable(cause) => Self::Unavailable(cause),
        }
    }
}

/// Whether the device belongs to a generated household, of any seed.
async fn is_generated_device(app: &App, ssd_id: SsdId) -> Result<bool, Failure> {
    if let Some(is_generated) = app.households.is_generated(ssd_id) {
        return Ok(is_generated);
    }
    let device = app.api.find_device(ssd_id).await?;
    let is_generated = device.is_some_and(|device| is_generated_address(&device.mac_address));
    if !is_generated {
        debug!("device {ssd_id} is not generated, so it orders for itself");
    }
    app.households.cache_is_generated(ssd_id, is_generated);
    Ok(is_generated)
}
