//! Devices report consumption.

use super::{devices::no_such_device, responses::Consumed};
use crate::{
    App,
    domain::NewConsumptions,
    shelves::{self, Unknown},
    store,
};
use axum::{Json, extract::State};
use off_events::{SsdId, StockConsumed};
use off_kit::{
    auth::RowAccess,
    fields::FieldError,
    http::{ApiJson, ApiPath, Problem},
    telemetry,
};

/// Report units that were taken off the shelf of a device.
///
/// All reports count, or none. Each counts once, by its id: after an answer that did not arrive, repeat the request. It
/// has the same effect as the message `stock.consumed`.
#[utoipa::path(post, path = "/api/devices/{ssd_id}/consumptions", tag = "devices", request_body = NewConsumptions,
    security(("token" = ["person"]), ("token" = ["device"]), ("token" = ["simulate"])),
    params(("ssd_id" = SsdId, Path, description = "the device")),
    responses(
        (status = 200, description = "the reports are stored", body = Consumed),
        (status = 400, description = "the body is not valid JSON", body = Problem),
        (status = 404, description = "no such device", body = Problem),
        (status = 413, description = "the body is larger than 64 KiB", body = Problem),
        (status = 415, description = "the Content-Type is not JSON", body = Problem),
        (status = 422, description = "invalid fields or unknown products, each with its error", body = Problem),
        (status = 503, description = "temporarily unavailable, see Retry-After", body = Problem)))]
pub(super) async fn create_consumptions(
    State(app): State<App>,
    access: RowAccess,
    ApiPath(ssd_id): ApiPath<i64>,
    ApiJson(new): ApiJson<NewConsumptions>,
) -> Result<Json<Consumed>, Problem> {
    let reports = new.check(SsdId(ssd_id)).map_err(Problem::invalid)?;
    match shelves::consume(&app, reports.iter(), |_| telemetry::current_traceparent(), access).await {
        Ok(consumed) => consumed.map(|consumed| Json(consumed.into())).ok_or_else(|| no_such_device(ssd_id)),
        Err(error) => Err(match Unknown::of(&error) {
            Some(Unknown::Device) => no_such_device(ssd_id),
            Some(Unknown::Product) => unknown_products(&app, &reports).await,
            None if is_conflict(&error) => Problem::unavailable("another request has reported the same; try again"),
            None => Problem::of_database(error),
        }),
    }
}

/// Whether another transaction has just stored a report with the same id and another product.
fn is_conflict(error: &sqlx::Error) -> bool {
    error.as_database_error().and_then(|error| error.constraint()) == Some("consumptions_pkey")
}

/// 422, with all reports whose product is not in the catalog.
async fn unknown_products(app: &App, reports: &[StockConsumed]) -> Problem {
    let barcodes: Vec<_> = reports.iter().map(|report| &report.barcode).collect();
    let unknown = match store::list_unknown_products(&app.db, &barcodes).await {
        Ok(unknown) => unknown,
        Err(error) => return Problem::of_database(error),
    };
    let errors: Vec<_> = (barcodes.iter().enumerate())
        .filter(|(_, barcode)| unknown.contains(*barcode))
        .map(|(index, _)| FieldError::new(NewConsumptions::barcode_field(index), &"the catalog has no such product"))
        .collect();
    if errors.is_empty() {
        Problem::unavailable("the catalog changes at the moment; try again")
    } else {
        Problem::invalid(errors)
    }
}
