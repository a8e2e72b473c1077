//! Devices and their shelves.

use super::{
    NO_STORE,
    registrations::mac_address_taken,
    responses::{Device, DevicePage, RegisteredDevice},
};
use crate::{
    App,
    codes::Code,
    devices::{self, AddError},
    domain::NewDevice,
    store,
};
use axum::{
    Json,
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
};
use off_events::SsdId;
use off_kit::{
    auth::{RowAccess, Scope},
    http::{ApiJson, ApiPath, ApiQuery, PageSize, Problem, RequestSource},
};
use serde::Deserialize;
use tracing::error;
use utoipa::IntoParams;

/// Devices per page.
const PAGE_SIZE: PageSize = PageSize { default: 100, max: 1000 };

pub(super) fn no_such_device(ssd_id: i64) -> Problem {
    Problem::not_found(format!("there is no device {ssd_id}"))
}

/// A device and its shelf.
#[utoipa::path(get, path = "/api/devices/{ssd_id}", tag = "devices",
    security(("token" = ["person"]), ("token" = ["device"]), ("token" = ["simulate"]), ("token" = ["operate"])),
    params(("ssd_id" = SsdId, Path, description = "the device")),
    responses(
        (status = 200, description = "the device", body = Device),
        (status = 404, description = "no such device", body = Problem),
        (status = 503, description = "temporarily unavailable, see Retry-After", body = Problem)))]
pub(super) async fn find_device(
    State(app): State<App>,
    access: RowAccess,
    ApiPath(ssd_id): ApiPath<i64>,
) -> Result<Json<Device>, Problem> {
    let device = store::find_device(&app.db, SsdId(ssd_id), access).await.map_err(Problem::of_database)?;
    device.map(|device| Json(device.into())).ok_or_else(|| no_such_device(ssd_id))
}

/// Which devices to list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct ListDevices {
    /// `next_cursor` of the previous page.
    cursor: Option<i64>,
    /// Devices per page, 1 to 1000; default 100.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
}

/// List devices in pages, the oldest first: a person's own, the simulated ones, or all for an operator.
#[utoipa::path(get, path = "/api/devices", tag = "devices", params(ListDevices),
    security(("token" = ["person"]), ("token" = ["simulate"]), ("token" = ["operate"])),
    responses(
        (status = 200, description = "a page of devices", body = DevicePage),
        (status = 400, description = "an invalid query parameter", body = Problem),
        (status = 503, description = "temporarily unavailable, see Retry-After", body = Problem)))]
pub(super) async fn list_devices(
    State(app): State<App>,
    access: RowAccess,
    ApiQuery(query): ApiQuery<ListDevices>,
) -> Result<Json<DevicePage>, Problem> {
    let limit = PAGE_SIZE.limit(query.limit)?;
    // One extra row shows whether there is another page.
    let devices = store::list_devices(&app.db, access, SsdId(query.cursor.unwrap_or(0)), limit + 1).await;
    Ok(Json(DevicePage::new(devices.map_err(Problem::of_database)?, limit)))
}

/// Add a device.
///
/// The answer has its key, which is shown only here.
#[utoipa::path(post, path = "/api/devices", tag = "devices", request_body = NewDevice,
    security(("token" = ["person"])),
    responses(
        (status = 201, description = "added", body = RegisteredDevice,
            headers(("Location" = String, description = "the device"))),
        (status = 400, description = "the body is not valid JSON", body = Problem),
        (status = 404, description = "no such person", body = Problem),
        (status = 409, description = "the MAC address is registered already, or the person has 50 devices",
            body = Problem),
        (status = 413, description = "the body is larger than 64 KiB", body = Problem),
        (status = 415, description = "the Content-Type is not JSON", body = Problem),
        (status = 422, description = "an invalid MAC address", body = Problem),
        (status = 503, description = "temporarily unavailable, see Retry-After", body = Problem)))]
pub(super) async fn create_device(
    State(app): State<App>,
    access: RowAccess,
    source: RequestSource,
    ApiJson(new): ApiJson<NewDevice>,
) -> Result<impl IntoResponse, Problem> {
    let RowAccess::Person(user_id) = access else {
        return Err(Problem::forbidden([Scope::Person].into_iter().collect()));
    };
    let mac_address = new.check().map_err(Problem::invalid)?;
    let device = devices::add(&app, user_id, mac_address, &source).await?;
    let location = format!("/api/devices/{}", device.ssd_id);
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], [NO_STORE], Json(RegisteredDevice::from(device))))
}

impl From<AddError> for Problem {
    fn from(error: AddError) -> Self {
        match error {
            AddError::NoPerson => Self::not_found("there is no such person"),
            AddError::MacAddressTaken => mac_address_taken(),
            AddError::TooMany => Self::new(Code::TooManyDevices, "a person has at most 50 devices"),
            AddError::Key(_) => {
                error!("{error}");
                Self::internal()
            }
            AddError::Database(error) => Self::of_database(error),
        }
    }
}
