//! Registration of people with their devices.

use super::{NO_STORE, responses::Registered};
use crate::{
    App,
    codes::Code,
    domain::NewRegistration,
    registration::{self, RegistrationError},
    store::RegistrationConflict,
};
use axum::{
    Json,
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
};
use off_kit::{
    auth::RowAccess,
    http::{ApiJson, Problem, RequestSource},
    password::HashError,
};
use tracing::error;

/// Register a person and their devices, all or none.
///
/// The answer has a key for each device, which is shown only here, and the tokens of the person. People and devices
/// that a client simulates get neither. Without `session`, the person is registered and signs in at `POST /api/login`.
#[utoipa::path(post, path = "/api/register", tag = "users", request_body = NewRegistration,
    security((), ("token" = ["simulate"])),
    responses(
        (status = 201, description = "registered", body = Registered,
            headers(("Location" = String, description = "the person"))),
        (status = 400, description = "the body is not valid JSON", body = Problem),
        (status = 401, description = "a token that is not valid", body = Problem),
        (status = 403, description = "a token that does not allow this", body = Problem),
        (status = 409, description = "the e-mail address or a MAC address is registered already", body = Problem),
        (status = 413, description = "the body is larger than 64 KiB", body = Problem),
        (status = 415, description = "the Content-Type is not JSON", body = Problem),
        (status = 422, description = "invalid fields, each with its error", body = Problem),
        (status = 503, description = "temporarily unavailable, see Retry-After", body = Problem)))]
pub(super) async fn create_registration(
    State(app): State<App>,
    access: Option<RowAccess>,
    source: RequestSource,
    ApiJson(new): ApiJson<NewRegistration>,
) -> Result<impl IntoResponse, Problem> {
    let registration = new.check().map_err(Problem::invalid)?;
    let registered = match access {
        Some(RowAccess::Simulated) => registration::register_simulated(&app, registration, &source).await?,
        _ => registration::register(&app, registration, &source).await?,
    };
    let location = format!("/api/users/{}", registered.user_id);
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], [NO_STORE], Json(Registered::from(registered))))
}

impl From<RegistrationError> for Problem {
    fn from(error: RegistrationError) -> Self {
        match error {
            RegistrationError::Conflict(RegistrationConflict::Email) => email_taken(),
            RegistrationError::Conflict(RegistrationConflict::MacAddress) => mac_address_taken(),
            RegistrationError::Hash(HashError::Full) => {
                Self::unavailable("too many registrations at once; try again later")
            }
            RegistrationError::Hash(HashError::Failed(_)) | RegistrationError::Keys(_) => {
                error!("{error}");
                Self::internal()
            }
            RegistrationError::Database(error) => Self::of_database(error),
        }
    }
}

pub(super) fn email_taken() -> Problem {
    Problem::new(Code::EmailTaken, "this e-mail address is registered already")
}

pub(super) fn mac_address_taken() -> Problem {
    Problem::new(Code::MacAddressTaken, "a device with this MAC address is registered already")
}
