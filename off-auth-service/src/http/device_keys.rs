//! Keys with which devices sign in. A person makes them for their devices, and a device for itself, to replace its own.

use super::NO_STORE;
use crate::{
    App,
    codes::Code,
    device_keys::{self, NotCreated},
    domain::{self, Label},
    store,
};
use axum::{
    Json,
    extract::State,
    http::{HeaderName, HeaderValue, StatusCode},
};
use chrono::{DateTime, Utc};
use off_events::SsdId;
use off_kit::{
    auth::{Caller, RowAccess, TokenError},
    fields::FieldError,
    http::{ApiJson, ApiPath, Problem, RequestSource},
};
use serde::{Deserialize, Serialize};
use std::fmt;
use tracing::error;
use utoipa::ToSchema;
use uuid::Uuid;

/// A key to create.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct NewKey {
    /// What the person calls the key.
    #[serde(default)]
    #[schema(max_length = 100, example = "kitchen")]
    label: String,
}

/// A new key.
#[derive(Serialize, ToSchema)]
pub(super) struct CreatedKey {
    id: Uuid,
    ssd_id: SsdId,
    /// The key itself. It is shown once and cannot be shown again.
    #[schema(example = "offd_01890a5dac96774bbcceb302099a8057_c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2U")]
    key: String,
    label: String,
    created_at: DateTime<Utc>,
}

/// Omits the key.
impl fmt::Debug for CreatedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CreatedKey").field("id", &self.id).finish_non_exhaustive()
    }
}

/// A key of a device, without the key itself.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct KeyInList {
    id: Uuid,
    label: String,
    created_at: DateTime<Utc>,
    /// Who created it.
    #[schema(example = "user:17")]
    created_by: String,
    /// The key with which the device made it; absent if somebody else made it, or if that key ended a month ago.
    #[serde(skip_serializing_if = "Option::is_none")]
    made_with: Option<Uuid>,
    /// To the minute; absent if it was never used.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_used_at: Option<DateTime<Utc>>,
}

impl From<domain::DeviceKey> for KeyInList {
    fn from(key: domain::DeviceKey) -> Self {
        let domain::DeviceKey { id, label, created_at, created_by, made_with, last_used_at } = key;
        Self { id, label, created_at, created_by, made_with, last_used_at }
    }
}

/// The keys of a device, at most two.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct KeyList {
    /// The oldest first.
    keys: Vec<KeyInList>,
}

impl From<NotCreated> for Problem {
    fn from(reason: NotCreated) -> Self {
        let detail = reason.to_string();
        match reason {
            NotCreated::NoDevice => Self::not_found(detail),
            NotCreated::TooManyKeys => Self::new(Code::TooManyKeys, detail),
            NotCreated::Revoked => Self::of_token(TokenError::Revoked),
            NotCreated::Database(error) => Self::of_database(error),
            NotCreated::Failed(_) => {
                error!("{detail}");
                Self::internal()
            }
        }
    }
}

/// Create a key for a device. The answer is the only one that shows it.
///
/// A device has at most two keys: create the new one, bring it onto the device, and revoke the old one. A key that the
/// device makes ends with the key that it makes it with, unless the device itself revokes that one.
#[utoipa::path(post, path = "/api/devices/{ssd_id}/keys", tag = "device keys",
    security(("token" = ["person"]), ("token" = ["device"])),
    params(("ssd_id" = SsdId, Path, description = "the device")), request_body = NewKey,
    responses(
        (status = 201, description = "created", body = CreatedKey),
        (status = 400, description = "the body is not valid JSON", body = Problem),
        (status = 404, description = "no such device", body = Problem),
        (status = 409, description = "the device has two keys: revoke one first", body = Problem),
        (status = 413, description = "the body is larger than 64 KiB", body = Problem),
        (status = 415, description = "the Content-Type is not JSON", body = Problem),
        (status = 422, description = "invalid fields, each with its error", body = Problem),
        (status = 503, description = "temporarily unavailable, see Retry-After", body = Problem)))]
pub(super) async fn create_device_key(
    State(app): State<App>,
    caller: Caller,
    access: RowAccess,
    source: RequestSource,
    ApiPath(ssd_id): ApiPath<i64>,
    ApiJson(new): ApiJson<NewKey>,
) -> Result<(StatusCode, [(HeaderName, HeaderValue); 1], Json<CreatedKey>), Problem> {
    let label: Label = new.label.parse().map_err(|error| Problem::invalid(vec![FieldError::new("label", &error)]))?;
    let (key, created_at) = device_keys::create(&app, &caller.0, access, SsdId(ssd_id), &label, &source).await?;
    let created = CreatedKey {
        id: key.id(),
        ssd_id: SsdId(ssd_id),
        key: key.text().to_owned(),
        label: label.as_str().to_owned(),
        created_at,
    };
    Ok((StatusCode::CREATED, [NO_STORE], Json(created)))
}

/// The keys of a device, without the keys themselves.
#[utoipa::path(get, path = "/api/devices/{ssd_id}/keys", tag = "device keys",
    security(("token" = ["person"]), ("token" = ["device"])),
    params(("ssd_id" = SsdId, Path, description = "the device")),
    responses(
        (status = 200, description = "the keys", body = KeyList),
        (status = 404, description = "no such device", body = Problem),
        (status = 503, description = "temporarily unavailable, see Retry-After", body = Problem)))]
pub(super) async fn list_device_keys(
    State(app): State<App>,
    access: RowAccess,
    ApiPath(ssd_id): ApiPath<i64>,
) -> Result<Json<KeyList>, Problem> {
    let keys = store::list_device_keys(&app.db, access, SsdId(ssd_id)).await.map_err(Problem::of_database)?;
    let keys = keys.ok_or_else(|| Problem::from(NotCreated::NoDevice))?;
    Ok(Json(KeyList { keys: keys.into_iter().map(Into::into).collect() }))
}

/// Revoke a key of a device. Its access tokens end with it.
///
/// When a person revokes it, the keys that the device made with it end, too, and those that were made with these,
/// because whoever had a stolen key may have made them. They end also when the key itself was revoked before, which is
/// a 404. When the device revokes its own key, only that key ends, so that it can be replaced.
#[utoipa::path(delete, path = "/api/devices/{ssd_id}/keys/{id}", tag = "device keys",
    security(("token" = ["person"]), ("token" = ["device"])),
    params(("ssd_id" = SsdId, Path, description = "the device"), ("id" = Uuid, Path, description = "the key")),
    responses(
        (status = 204, description = "revoked"),
        (status = 404, description = "no such device or key, or it was revoked before", body = Problem),
        (status = 503, description = "temporarily unavailable, see Retry-After", body = Problem)))]
pub(super) async fn revoke_device_key(
    State(app): State<App>,
    caller: Caller,
    access: RowAccess,
    source: RequestSource,
    ApiPath((ssd_id, id)): ApiPath<(i64, Uuid)>,
) -> Result<StatusCode, Problem> {
    let revoked = device_keys::revoke(&app, &caller.0, access, SsdId(ssd_id), id, &source).await;
    if revoked.map_err(Problem::of_database)? {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(Problem::not_found(format!("device {ssd_id} has no key {id}")))
    }
}
