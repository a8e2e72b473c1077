//! When products on a shelf are reordered.

use super::{devices::no_such_device, responses::ShelfItem};
use crate::{
    App,
    codes::Code,
    domain::{self, NamedShelfItem},
    shelves::{self, ChangeError, Unknown},
    store,
};
use axum::{Json, extract::State};
use off_events::{Barcode, InvalidValue, SsdId};
use off_kit::{
    auth::RowAccess,
    fields::{Fields, Raw},
    http::{ApiJson, ApiPath, Problem},
};
use serde::Deserialize;
use utoipa::ToSchema;

/// When a product is reordered. What is missing stays as it is.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub(super) struct ShelfItemChange {
    /// The product is reordered at or below this quantity.
    #[serde(default)]
    #[schema(value_type = Option<i64>, minimum = 0, maximum = 1000, example = 3)]
    reorder_point: Raw,
    /// Whether its restocking is paused.
    #[serde(default)]
    #[schema(value_type = Option<bool>)]
    is_paused: Raw,
}

/// Change when a product on a shelf is reordered, or put a new product on the shelf, with no units yet.
///
/// If the product is low by this, `stock.low` follows, for which the device orders.
#[utoipa::path(put, path = "/api/devices/{ssd_id}/shelf/{barcode}", tag = "devices", request_body = ShelfItemChange,
    security(("token" = ["person"]), ("token" = ["simulate"])),
    params(("ssd_id" = SsdId, Path, description = "the device"), ("barcode" = String, Path, description = "the product")),
    responses(
        (status = 200, description = "changed", body = ShelfItem),
        (status = 400, description = "the body is not valid JSON", body = Problem),
        (status = 404, description = "no such device or product", body = Problem),
        (status = 409, description = "the shelf has 200 products already", body = Problem),
        (status = 413, description = "the body is larger than 64 KiB", body = Problem),
        (status = 415, description = "the Content-Type is not JSON", body = Problem),
        (status = 422, description = "invalid fields, each with its error", body = Problem),
        (status = 503, description = "temporarily unavailable, see Retry-After", body = Problem)))]
pub(super) async fn change_shelf_item(
    State(app): State<App>,
    access: RowAccess,
    ApiPath((ssd_id, barcode)): ApiPath<(i64, String)>,
    ApiJson(change): ApiJson<ShelfItemChange>,
) -> Result<Json<ShelfItem>, Problem> {
    let unknown = || Problem::not_found(format!("there is no product {barcode}"));
    let parsed: Barcode = barcode.parse().map_err(|_| unknown())?;
    let mut fields = Fields::default();
    let point = fields.optional::<i64>("reorder_point", &change.reorder_point);
    let point = point.and_then(|point| fields.check("reorder_point", point.map(reorder_point).transpose()));
    let paused = fields.optional::<bool>("is_paused", &change.is_paused);
    let (point, paused) = fields.finish(point.zip(paused)).map_err(Problem::invalid)?;
    let changed = shelves::change(&app, SsdId(ssd_id), &parsed, access, point, paused).await;
    let item = changed.map_err(|error| match error {
        ChangeError::NoDevice => no_such_device(ssd_id),
        ChangeError::Full => {
            let detail = format!("a shelf has at most {} products", domain::ShelfItem::MAX_ON_SHELF);
            Problem::new(Code::ShelfFull, detail)
        }
        ChangeError::Database(error) if Unknown::of(&error) == Some(Unknown::Product) => unknown(),
        ChangeError::Database(error) => Problem::of_database(error),
    })?;
    let name = store::find_product_name(&app.db, &parsed).await.map_err(Problem::of_database)?;
    Ok(Json(NamedShelfItem { name: name.unwrap_or(barcode), item }.into()))
}

fn reorder_point(point: i64) -> Result<i32, InvalidValue> {
    let is_valid = (0..=domain::ShelfItem::MAX_REORDER_POINT).contains(&point);
    let valid = is_valid.then(|| i32::try_from(point).ok()).flatten();
    valid.ok_or(InvalidValue("a reorder point is 0 to 1000"))
}
