//! What happened on a shelf.

use super::devices::no_such_device;
use crate::{
    App,
    domain::{Level, Period, levels},
    store,
};
use axum::{Json, extract::State};
use chrono::{DateTime, TimeDelta, Utc};
use off_events::{Barcode, OrderId, SsdId};
use off_kit::{
    auth::RowAccess,
    http::{ApiPath, ApiQuery, CommonCode, Problem},
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

/// The most points of each product.
const MAX_POINTS: u32 = 500;

/// The longest period: a year.
const MAX_HOURS: u32 = 366 * 24;

/// Which period, and how finely.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct FindHistory {
    /// The length of the period that ends now, in hours, 1 to 8784; default 24.
    #[param(minimum = 1, maximum = 8784)]
    hours: Option<u32>,
    /// Points of each product, 2 to 500; default 96.
    #[param(minimum = 2, maximum = 500)]
    points: Option<u32>,
}

/// The stock of a shelf over time.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ShelfHistory {
    from: DateTime<Utc>,
    until: DateTime<Utc>,
    /// For each product on the shelf, by barcode.
    items: Vec<ItemHistory>,
}

/// The stock of a product over time.
#[derive(Debug, Serialize, ToSchema)]
struct ItemHistory {
    #[schema(value_type = String, example = "2000000000015")]
    barcode: Barcode,
    /// One for each part of the period, oldest first. All parts have the same length.
    points: Vec<Level>,
}

/// Get the stock of a shelf over time, from its deliveries and its consumption.
///
/// The times of the consumption are those of the clock of the device.
#[utoipa::path(get, path = "/api/devices/{ssd_id}/history", tag = "devices",
    security(("token" = ["person"]), ("token" = ["device"]), ("token" = ["simulate"]), ("token" = ["operate"])),
    params(("ssd_id" = SsdId, Path, description = "the device"), FindHistory),
    responses(
        (status = 200, description = "the stock", body = ShelfHistory),
        (status = 400, description = "an invalid query parameter", body = Problem),
        (status = 404, description = "no such device", body = Problem),
        (status = 503, description = "temporarily unavailable, see Retry-After", body = Problem)))]
pub(super) async fn find_history(
    State(app): State<App>,
    access: RowAccess,
    ApiPath(ssd_id): ApiPath<i64>,
    ApiQuery(query): ApiQuery<FindHistory>,
) -> Result<Json<ShelfHistory>, Problem> {
    let within = |value: Option<u32>, default, min, max, name: &str| {
        let value = value.unwrap_or(default);
        let detail = format!("{name} is {min} to {max}");
        if (min..=max).contains(&value) { Ok(value) } else { Err(Problem::new(CommonCode::InvalidQuery, detail)) }
    };
    let hours = within(query.hours, 24, 1, MAX_HOURS, "hours")?;
    let points = within(query.points, 96, 2, MAX_POINTS, "points")?;
    let device = store::find_device(&app.db, SsdId(ssd_id), access).await.map_err(Problem::of_database)?;
    let (_, shelf) = device.ok_or_else(|| no_such_device(ssd_id))?;
    let until = app.clock.now();
    let period = Period { from: until - TimeDelta::hours(hours.into()), until, parts: points };
    let changes = store::list_changes(&app.db, SsdId(ssd_id), period).await.map_err(Problem::of_database)?;
    let items = shelf.into_iter().map(|named| {
        let points = levels(&period, named.item.quantity, changes.get(named.item.barcode.as_str()));
        ItemHistory { barcode: named.item.barcode, points }
    });
    Ok(Json(ShelfHistory { from: period.from, until, items: items.collect() }))
}

/// A delivery, and what it changed.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Delivery {
    order_id: OrderId,
    #[schema(value_type = String, example = "2000000000015")]
    barcode: Barcode,
    /// Units that were added to the shelf.
    quantity: i32,
    delivered_at: DateTime<Utc>,
    /// Units on the shelf before it, as far as the clocks of device and system agree.
    before: i64,
    /// Units on the shelf after it.
    after: i64,
}

/// Get the delivery of an order.
#[utoipa::path(get, path = "/api/devices/{ssd_id}/deliveries/{order_id}", tag = "devices",
    security(("token" = ["person"]), ("token" = ["device"]), ("token" = ["simulate"]), ("token" = ["operate"])),
    params(("ssd_id" = SsdId, Path, description = "the device"), ("order_id" = OrderId, Path, description = "the order")),
    responses(
        (status = 200, description = "the delivery", body = Delivery),
        (status = 404, description = "no such device, or the order is not on its shelf", body = Problem),
        (status = 503, description = "temporarily unavailable, see Retry-After", body = Problem)))]
pub(super) async fn find_delivery(
    State(app): State<App>,
    access: RowAccess,
    ApiPath((ssd_id, order_id)): ApiPath<(i64, Uuid)>,
) -> Result<Json<Delivery>, Problem> {
    let found = store::find_delivery(&app.db, SsdId(ssd_id), OrderId(order_id), access).await;
    let unknown =
        || Problem::not_found(format!("there is no delivery of order {order_id} on the shelf of device {ssd_id}"));
    let store::FoundDelivery { barcode, quantity, delivered_at, after } =
        found.map_err(Problem::of_database)?.ok_or_else(unknown)?;
    let before = after - i64::from(quantity);
    Ok(Json(Delivery { order_id: OrderId(order_id), barcode, quantity, delivered_at, before, after }))
}
