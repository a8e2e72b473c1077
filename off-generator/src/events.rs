//! Message handlers, one per subject.

use crate::{
    App,
    api::ApiError,
    domain::{is_generated, restock_quantity},
    stats::RESTOCK,
};
use futures::{StreamExt, stream};
use off_events::{Event, SsdId, StockLow};
use off_kit::bus::{Batch, Failure, Received};
use tokio::time::Instant;
use tracing::{Instrument, debug};

/// Maximum number of concurrent orders per batch.
const MAX_CONCURRENT: usize = 32;

/// `stock.low`: a device of a generated household orders. The message id is the idempotency key, so that the device
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
    if !is_own(app, low.ssd_id).await? {
        return Ok(());
    }
    let started = Instant::now();
    let outcome = app.api.order(&low.message_id(), low.ssd_id, &low.barcode, restock_quantity(app.seed, low)).await;
    app.stats.record(RESTOCK, started.elapsed(), &outcome);
    Ok(outcome?)
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        match error {
            ApiError::Refused { .. } => Self::Reject(error.to_string()),
            ApiError::Unavailable(cause) => Self::Unavailable(cause),
        }
    }
}

async fn is_own(app: &App, ssd: SsdId) -> Result<bool, Failure> {
    if let Some(known) = app.households.is_own(ssd) {
        return Ok(known);
    }
    let is_own = is_generated(&app.api.find_device(ssd).await?.mac_address);
    if !is_own {
        debug!("device {ssd} is not generated, so it orders for itself");
    }
    app.households.insert_owner(ssd, is_own);
    Ok(is_own)
}
