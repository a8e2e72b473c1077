//! How many orders there are.

use crate::{App, domain::Counts};
use axum::{Json, extract::State};
use off_kit::http::Problem;

/// Count the orders in each status that is not final, and all others together.
///
/// The numbers are of all people together, and some seconds old on a busy system.
#[utoipa::path(get, path = "/api/orders/counts", tag = "orders", security(()), responses(
    (status = 200, description = "the counts", body = Counts),
    (status = 503, description = "temporarily unavailable, see Retry-After", body = Problem)))]
pub(super) async fn count_orders(State(app): State<App>) -> Result<Json<Counts>, Problem> {
    app.counter.counts(&app.db).await.map(Json).map_err(Problem::of_database)
}
