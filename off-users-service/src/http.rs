//! Its routes and handlers.

use crate::{
    App,
    domain::NewRegistration,
    password::Unhashed,
    store::{self, Device, Taken, User},
};
use axum::{
    Json,
    extract::State,
    http::{HeaderName, StatusCode, header},
};
use off_events::{SsdId, UserId, UserRegistered};
use off_kit::{
    http::{ApiJson, ApiPath, ApiQuery, Problem},
    outbox::Entry,
    telemetry,
};
use serde::{Deserialize, Serialize};
use tracing::error;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

/// Devices on a page unless asked for fewer or more.
const PAGE: u32 = 100;
/// The most devices on a page.
const LARGEST_PAGE: u32 = 1000;

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
    /// In the order in which they were sent.
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
        (status = 400, description = "not JSON", body = Problem),
        (status = 409, description = "the e-mail address or a MAC address is registered already", body = Problem),
        (status = 413, description = "larger than 64 KiB", body = Problem),
        (status = 415, description = "not sent as JSON", body = Problem),
        (status = 422, description = "wrong fields, each named", body = Problem),
        (status = 503, description = "not now; Retry-After says when", body = Problem)))]
async fn create_registration(
    State(app): State<App>,
    ApiJson(new): ApiJson<NewRegistration>,
) -> Result<(StatusCode, [(HeaderName, String); 1], Json<Registered>), Problem> {
    let mut registration = new.check().map_err(Problem::invalid)?;
    // Asked before the slow hash and before any id is drawn: a refused registration leaves no gap in the ids.
    if let Some(taken) = store::find_taken(&app.db, &registration).await? {
        return Err(taken.into());
    }
    let password = std::mem::take(&mut registration.password);
    let password_hash = app.hasher.hash(password).await.map_err(|failure| match failure {
        Unhashed::Full => Problem::unavailable("more people register than can be registered; try again"),
        Unhashed::Failed(_) => {
            error!("{failure}");
            Problem::internal()
        }
    })?;
    let now = app.clock.now();
    let mut tx = app.db.begin().await?;
    let (id, ssd_ids) = store::insert_user(&mut tx, &registration, &password_hash, now).await.map_err(taken)?;
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

/// A unique violation means that someone else was faster.
fn taken(error: sqlx::Error) -> Problem {
    match error.as_database_error().and_then(|error| error.constraint()) {
        Some("users_email_taken") => Taken::Email.into(),
        Some("ssds_mac_address_taken") => Taken::MacAddress.into(),
        _ => error.into(),
    }
}

impl From<Taken> for Problem {
    fn from(taken: Taken) -> Self {
        match taken {
            Taken::Email => Self::new(StatusCode::CONFLICT, "email_taken", "this e-mail address is registered already"),
            Taken::MacAddress => Self::new(
                StatusCode::CONFLICT,
                "mac_address_taken",
                "a device with this MAC address is registered already",
            ),
        }
    }
}

/// A person and the ids of their devices.
#[utoipa::path(get, path = "/api/users/{id}", tag = "users",
    params(("id" = UserId, Path, description = "the person")),
    responses(
        (status = 200, description = "the person", body = User),
        (status = 404, description = "no such person", body = Problem),
        (status = 503, description = "not now; Retry-After says when", body = Problem)))]
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
        (status = 503, description = "not now; Retry-After says when", body = Problem)))]
async fn find_device(State(app): State<App>, ApiPath(ssd_id): ApiPath<i64>) -> Result<Json<Device>, Problem> {
    let device = store::find_device(&app.db, SsdId(ssd_id)).await?;
    device.map(Json).ok_or_else(|| Problem::not_found(format!("there is no device {ssd_id}")))
}

/// Which devices to list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct ListDevices {
    /// Where the page before ended: its `next_cursor`.
    cursor: Option<i64>,
    /// Devices on a page, 1 to 1000; 100 unless said otherwise.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
}

/// A page of devices, the oldest first.
#[derive(Debug, Serialize, ToSchema)]
struct DevicePage {
    devices: Vec<store::DeviceInList>,
    /// The `cursor` of the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<SsdId>,
}

/// Devices, the oldest first, page by page.
#[utoipa::path(get, path = "/api/devices", tag = "devices", params(ListDevices),
    responses(
        (status = 200, description = "a page of devices", body = DevicePage),
        (status = 400, description = "a parameter that is not understood", body = Problem),
        (status = 503, description = "not now; Retry-After says when", body = Problem)))]
async fn list_devices(
    State(app): State<App>,
    ApiQuery(query): ApiQuery<ListDevices>,
) -> Result<Json<DevicePage>, Problem> {
    let limit = query.limit.unwrap_or(PAGE);
    if !(1..=LARGEST_PAGE).contains(&limit) {
        return Err(Problem::new(StatusCode::BAD_REQUEST, "invalid_query", "limit: a number from 1 to 1000"));
    }
    // One more than asked for tells whether there is another page.
    let mut devices = store::list_devices(&app.db, SsdId(query.cursor.unwrap_or(0)), limit + 1).await?;
    let more = devices.len() > limit as usize;
    devices.truncate(limit as usize);
    let next_cursor = devices.last().filter(|_| more).map(|device| device.ssd_id);
    Ok(Json(DevicePage { devices, next_cursor }))
}
