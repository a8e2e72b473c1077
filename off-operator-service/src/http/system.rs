//! The state of the broker, and what is late.

use super::of_broker;
use crate::{
    App,
    broker::{self, StreamState},
    store::{self, OverdueOrder},
};
use axum::{Json, extract::State};
use off_kit::http::Problem;
use serde::Serialize;
use utoipa::ToSchema;

/// Maximum number of overdue orders that are listed.
const MAX_OVERDUE: i64 = 100;

/// All streams.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct StreamList {
    streams: Vec<StreamState>,
}

/// Overdue orders.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct OverdueList {
    /// At most 100, those first that have been overdue for longest.
    orders: Vec<OverdueOrder>,
}

/// The streams, each with its consumers and their backlogs.
#[utoipa::path(get, path = "/api/operator/streams", tag = "system", security(("token" = ["operate"])),
    responses(
        (status = 200, description = "the streams", body = StreamList),
        (status = 503, description = "temporarily unavailable, see Retry-After", body = Problem)))]
pub(super) async fn list_streams(State(app): State<App>) -> Result<Json<StreamList>, Problem> {
    let streams = broker::streams(&app.bus).await.map_err(|error| of_broker(&app, &error))?;
    Ok(Json(StreamList { streams }))
}

/// The orders whose next step has not happened by its deadline. The orders service announces them again.
#[utoipa::path(get, path = "/api/operator/overdue-orders", tag = "system", security(("token" = ["operate"])),
    responses(
        (status = 200, description = "the orders", body = OverdueList),
        (status = 503, description = "temporarily unavailable, see Retry-After", body = Problem)))]
pub(super) async fn list_overdue_orders(State(app): State<App>) -> Result<Json<OverdueList>, Problem> {
    let orders = store::list_overdue(&app.db, MAX_OVERDUE).await.map_err(Problem::of_database)?;
    Ok(Json(OverdueList { orders }))
}
