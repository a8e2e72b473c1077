//! HTTP routes and handlers.

use crate::{
    App,
    codes::Code,
    domain::NewRegistration,
    password::HashError,
    store::{self, Device, RegistrationConflict, User},
};
use axum::{
    Json,
    extract::State,
    http::{HeaderName, StatusCode, header},
};
use off_events::{SsdId, UserId, UserRegistered};
use off_kit::{
    http::{ApiJson, ApiPath, ApiQuery, CommonCode, Problem},
    outbox::Entry,
    telemetry,
};
use serde::{Deserialize, Serialize};
use tracing::error;
use utoipa::{IntoParams, ToSchema};
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

/// The ids of a new person and their devices.
#[derive(Debug, Serialize, ToSchema)]
struct Registered {
    user_id: UserId,
    /// In the order of the request.
    devices: Vec<RegisteredDevice>,
}

#[derive(Debug, Serialize, ToSchema)]
struct RegisteredDevice {
    ssd_id: SsdId,
    #[schema(example = "02:00:00:12:34:56")]
    mac_address: String,
}

/// Register a person and their devices, all or none.
#[utoipa::path(post, path = "/api/register", tag = "users", request_body = NewRegistration,
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
    ApiJson(new): ApiJson<NewRegistration>,
) -> Result<(StatusCode, [(HeaderName, String); 1], Json<Registered>), Problem> {
    let mut registration = new.check().map_err(Problem::invalid)?;
    // Checked before the slow hash, and before the insert takes ids from the sequences: a rejected registration must
    // not leave a gap in the ids.
    if let Some(conflict) = store::find_conflict(&app.db, &registration).await? {
        return Err(conflict.into());
    }
    let password = std::mem::take(&mut registration.password);
    let password_hash = app.hasher.hash(password).await.map_err(|failure| match failure {
        HashError::Full => Problem::unavailable("too many registrations at once; try again later"),
        HashError::Failed(_) => {
            error!("{failure}");
            Problem::internal()
        }
    })?;
    let now = app.clock.now();
    let mut tx = app.db.begin().await?;
    let (id, ssd_ids) =
        store::insert_user(&mut tx, &registration, &password_hash, now).await.map_err(insert_problem)?;
    let event = UserRegistered { id, ssd_ids: ssd_ids.clone(), timestamp: now };
    let entry = Entry { event: &event, occurred_at: now, traceparent: telemetry::current_traceparent() };
    app.outbox.put(&mut tx, &[entry]).await?;
    tx.commit().await?;
    app.outbox.wake();
    let devices = ssd_ids.into_iter().zip(registration.mac_addresses);
    let devices = devices.map(|(ssd_id, mac_address)| RegisteredDevice { ssd_id, mac_address: mac_address.into() });
    let registered = Registered { user_id: id, devices: devices.collect() };
    Ok((StatusCode::CREATED, [(header::LOCATION, format!("/api/users/{id}"))], Json(registered)))
}

/// A unique violation means that a concurrent registration was faster.
fn insert_problem(error: sqlx::Error) -> Problem {
    match error.as_database_error().and_then(|error| error.constraint()) {
        Some("users_email_taken") => RegistrationConflict::Email.into(),
        Some("devices_mac_address_taken") => RegistrationConflict::MacAddress.into(),
        _ => error.into(),
    }
}

impl From<RegistrationConflict> for Problem {
    fn from(conflict: RegistrationConflict) -> Self {
        match conflict {
            RegistrationConflict::Email => Self::new(Code::EmailTaken, "this e-mail address is registered already"),
            RegistrationConflict::MacAddress => {
                Self::new(Code::MacAddressTaken, "a device with this MAC address is registered already")
            }
        }
    }
}

/// A person and the ids of their devices.
#[utoipa::path(get, path = "/api/users/{id}", tag = "users",
    params(("id" = UserId, Path, description = "the person")),
    responses(
        (status = 200, description = "the person", body = User),
        (status = 404, description = "no such person", body = Problem),
        (status = 503, description = "temporarily unavailable, see Retry-After", body = Problem)))]
async fn find_user(State(app): State<App>, ApiPath(id): ApiPath<i64>) -> Result<Json<User>, Problem> {
    let user = store::find_user(&app.db, UserId(id)).await?;
    user.map(Json).ok_or_else(|| Problem::not_found(format!("there is no user {id}")))
}

/// A device and its shelf.
#[utoipa::path(get, path = "/api/devices/{ssd_id}", tag = "devices",
    params(("ssd_id" = SsdId, Path, description = "the device")),
    responses(
        (status = 200, description = "the device", body = Device),
        (status = 404, description = "no such device", body = Problem),
        (status = 503, description = "temporarily unavailable, see Retry-After", body = Problem)))]
async fn find_device(State(app): State<App>, ApiPath(ssd_id): ApiPath<i64>) -> Result<Json<Device>, Problem> {
    let device = store::find_device(&app.db, SsdId(ssd_id)).await?;
    device.map(Json).ok_or_else(|| Problem::not_found(format!("there is no device {ssd_id}")))
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

/// A page of devices, the oldest first.
#[derive(Debug, Serialize, ToSchema)]
struct DevicePage {
    devices: Vec<store::DeviceInList>,
    /// The `cursor` of the next page; absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<SsdId>,
}

/// List devices in pages, the oldest first.
#[utoipa::path(get, path = "/api/devices", tag = "devices", params(ListDevices),
    responses(
        (status = 200, description = "a page of devices", body = DevicePage),
        (status = 400, description = "an invalid query parameter", body = Problem),
        (status = 503, description = "temporarily unavailable, see Retry-After", body = Problem)))]
async fn list_devices(
    State(app): State<App>,
    ApiQuery(query): ApiQuery<ListDevices>,
) -> Result<Json<DevicePage>, Problem> {
    let limit = query.limit.unwrap_or(DEFAULT_PAGE_SIZE);
    if !(1..=MAX_PAGE_SIZE).contains(&limit) {
        return Err(Problem::new(CommonCode::InvalidQuery, "limit: must be a number from 1 to 1000"));
    }
    // One extra row shows whether there is another page.
    let mut devices = store::list_devices(&app.db, SsdId(query.cursor.unwrap_or(0)), limit + 1).await?;
    let has_more = devices.len() > limit as usize;
    devices.truncate(limit as usize);
    let next_cursor = devices.last().filter(|_| has_more).map(|device| device.ssd_id);
    Ok(Json(DevicePage { devices, next_cursor }))
}
