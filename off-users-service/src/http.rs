//! HTTP routes and handlers.

mod responses;

use crate::{
    App,
    codes::Code,
    domain::NewRegistration,
    registration::{self, RegistrationError},
    store::{self, RegistrationConflict},
};
use axum::{
    Json,
    extract::State,
    http::{HeaderName, StatusCode, header},
};
use off_events::{SsdId, UserId};
use off_kit::{
    auth::Reach,
    http::{ApiJson, ApiPath, ApiQuery, CommonCode, Problem},
    password::HashError,
};
use responses::{Device, DevicePage, Registered, User};
use serde::Deserialize;
use tracing::error;
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};

/// Devices per page by default.
const DEFAULT_PAGE_SIZE: u32 = 100;
/// Maximum number of devices per page.
const MAX_PAGE_SIZE: u32 = 1000;

pub(crate) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(create_registration))
        .routes(routes!(find_user))
        .routes(routes!(find_device))
        .routes(routes!(list_devices))
}

/// Register a person and their devices, all or none.
#[utoipa::path(post, path = "/api/register", tag = "users", request_body = NewRegistration,
    security((), ("token" = ["simulate"])),
    responses(
        (status = 201, description = "registered", body = Registered,
            headers(("Location" = String, description = "the person"))),
        (status = 400, description = "the body is not valid JSON", body = Problem),
        (status = 409, description = "the e-mail address or a MAC address is registered already", body = Problem),
        (status = 413, description = "the body is larger than 64 KiB", body = Problem),
        (status = 415, description = "the Content-Type is not JSON", body = Problem),
        (status = 422, description = "invalid fields, each with its error", body = Problem),
        (status = 503, description = "temporarily unavailable, see Retry-After", body = Problem)))]
async fn create_registration(
    State(app): State<App>,
    reach: Option<Reach>,
    ApiJson(new): ApiJson<NewRegistration>,
) -> Result<(StatusCode, [(HeaderName, String); 1], Json<Registered>), Problem> {
    let registration = new.check().map_err(Problem::invalid)?;
    let registered = registration::register(&app, registration, reach == Some(Reach::Simulated)).await?;
    let location = format!("/api/users/{}", registered.user_id);
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], Json(registered.into())))
}

impl From<RegistrationError> for Problem {
    fn from(error: RegistrationError) -> Self {
        match error {
            RegistrationError::Conflict(RegistrationConflict::Email) => {
                Self::new(Code::EmailTaken, "this e-mail address is registered already")
            }
            RegistrationError::Conflict(RegistrationConflict::MacAddress) => {
                Self::new(Code::MacAddressTaken, "a device with this MAC address is registered already")
            }
            RegistrationError::Hash(HashError::Full) => {
                Self::unavailable("too many registrations at once; try again later")
            }
            RegistrationError::Hash(HashError::Failed(_)) => {
                error!("{error}");
                Self::internal()
            }
            RegistrationError::Database(error) => Self::of_database(error),
        }
    }
}

/// A person and the ids of their devices.
#[utoipa::path(get, path = "/api/users/{id}", tag = "users",
    security(("token" = ["person"]), ("token" = ["simulate"]), ("token" = ["operate"])),
    params(("id" = UserId, Path, description = "the person")),
    responses(
        (status = 200, description = "the person", body = User),
        (status = 404, description = "no such person", body = Problem),
        (status = 503, description = "temporarily unavailable, see Retry-After", body = Problem)))]
async fn find_user(State(app): State<App>, reach: Reach, ApiPath(id): ApiPath<i64>) -> Result<Json<User>, Problem> {
    let user = store::find_user(&app.db, UserId(id), reach).await.map_err(Problem::of_database)?;
    user.map(|user| Json(user.into())).ok_or_else(|| Problem::not_found(format!("there is no person {id}")))
}

/// A device and its shelf.
#[utoipa::path(get, path = "/api/devices/{ssd_id}", tag = "devices",
    security(("token" = ["person"]), ("token" = ["device"]), ("token" = ["simulate"]), ("token" = ["operate"])),
    params(("ssd_id" = SsdId, Path, description = "the device")),
    responses(
        (status = 200, description = "the device", body = Device),
        (status = 404, description = "no such device", body = Problem),
        (status = 503, description = "temporarily unavailable, see Retry-After", body = Problem)))]
async fn find_device(
    State(app): State<App>,
    reach: Reach,
    ApiPath(ssd_id): ApiPath<i64>,
) -> Result<Json<Device>, Problem> {
    let device = store::find_device(&app.db, SsdId(ssd_id), reach).await.map_err(Problem::of_database)?;
    device.map(|device| Json(device.into())).ok_or_else(|| Problem::not_found(format!("there is no device {ssd_id}")))
}

/// Which devices to list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct ListDevices {
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
async fn list_devices(
    State(app): State<App>,
    reach: Reach,
    ApiQuery(query): ApiQuery<ListDevices>,
) -> Result<Json<DevicePage>, Problem> {
    let limit = query.limit.unwrap_or(DEFAULT_PAGE_SIZE);
    if !(1..=MAX_PAGE_SIZE).contains(&limit) {
        return Err(Problem::new(CommonCode::InvalidQuery, "limit: must be a number from 1 to 1000"));
    }
    // One extra row shows whether there is another page.
    let devices = store::list_devices(&app.db, reach, SsdId(query.cursor.unwrap_or(0)), limit + 1).await;
    Ok(Json(DevicePage::new(devices.map_err(Problem::of_database)?, limit as usize)))
}
