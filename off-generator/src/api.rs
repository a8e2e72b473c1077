//! Client of the public API of the users service, the orders service and the billing service.

use crate::{Config, domain::Household, households::Registered};
use anyhow::Context;
use off_events::{Barcode, MacAddress, Money, SsdId, UserId};
use off_kit::{auth::TokenSource, backoff::Backoff, telemetry};
use reqwest::{Client, RequestBuilder, Response, StatusCode};
use serde::Deserialize;
use serde_json::json;
use std::time::Duration;
use url::Url;

/// Maximum number of attempts to place an order. All attempts use the same idempotency key.
const MAX_ATTEMPTS: u32 = 4;

/// Client of these services. Clones share connections.
#[derive(Debug, Clone)]
pub(crate) struct Api {
    client: Client,
    tokens: TokenSource,
    users: Url,
    orders: Url,
    billing: Url,
}

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApiError {
    /// The service rejected the request; a retry would fail again.
    #[error("the service answered {status}: {detail}")]
    Rejected { status: StatusCode, detail: String },
    /// The service is unavailable or overloaded; the request can be retried.
    #[error("{0:#}")]
    Unavailable(anyhow::Error),
}

impl From<reqwest::Error> for ApiError {
    fn from(error: reqwest::Error) -> Self {
        Self::Unavailable(error.into())
    }
}

/// The response to a registration.
#[derive(Debug, Deserialize)]
struct Registration {
    user_id: UserId,
    devices: Vec<RegisteredDevice>,
}

#[derive(Debug, Deserialize)]
struct RegisteredDevice {
    ssd_id: SsdId,
}

/// A device in a [`DevicePage`].
#[derive(Debug, Deserialize)]
pub(crate) struct ListedDevice {
    pub(crate) ssd_id: SsdId,
    pub(crate) user_id: UserId,
    pub(crate) mac_address: MacAddress,
}

/// A page of the list of devices, ordered by id.
#[derive(Debug, Deserialize)]
pub(crate) struct DevicePage {
    pub(crate) devices: Vec<ListedDevice>,
    /// The cursor of the next page; `None` on the last.
    pub(crate) next_cursor: Option<SsdId>,
}

/// A single device.
#[derive(Debug, Deserialize)]
pub(crate) struct Device {
    pub(crate) mac_address: MacAddress,
}

impl Api {
    /// A client of the services that `config` names.
    pub(crate) fn new(config: &Config, tokens: TokenSource) -> anyhow::Result<Self> {
        // Fails if a provider is installed already, which is the same one.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder().timeout(Duration::from_secs(15)).no_proxy().build();
        let client = client.context("cannot create the HTTP client")?;
        let Config { users_url, orders_url, billing_url, .. } = config.clone();
        Ok(Self { client, tokens, users: users_url, orders: orders_url, billing: billing_url })
    }

    /// Registers a household; returns the ids of its person and devices.
    pub(crate) async fn register(&self, household: &Household) -> Result<Registered, ApiError> {
        let url = join(&self.users, "/api/register")?;
        let response = self.send(self.client.post(url).json(household)).await?;
        let Registration { user_id, devices } = response.json().await?;
        Ok(Registered { user: Some(user_id), devices: devices.into_iter().map(|device| device.ssd_id).collect() })
    }

    /// Pays money into the account of a person. `key` is the idempotency key, so that it is paid in once.
    pub(crate) async fn deposit(&self, key: &str, user: UserId, amount: Money) -> Result<(), ApiError> {
        let url = join(&self.billing, &format!("/api/account/deposits?user_id={user}"))?;
        let request = self.client.post(url).header("Idempotency-Key", key).json(&json!({"amount": amount}));
        match self.send(request).await {
            // The amount is valid, so the key was used for another one: an earlier run with other settings paid it in.
            Err(ApiError::Rejected { status: StatusCode::UNPROCESSABLE_ENTITY, .. }) => Ok(()),
            result => result.map(drop),
        }
    }

    /// Places an order, with retries while the service is unavailable. `key` is the idempotency key, so that the order
    /// is placed once.
    pub(crate) async fn place_order(
        &self,
        key: &str,
        ssd_id: SsdId,
        barcode: &Barcode,
        quantity: i64,
    ) -> Result<(), ApiError> {
        let url = join(&self.orders, "/api/orders")?;
        let body = json!({"ssd_id": ssd_id, "barcode": barcode, "quantity": quantity});
        let mut backoff = Backoff::default();
        let mut attempt = 1;
        loop {
            match self.send(self.client.post(url.clone()).header("Idempotency-Key", key).json(&body)).await {
                Err(ApiError::Unavailable(_)) if attempt < MAX_ATTEMPTS => tokio::time::sleep(backoff.pause()).await,
                result => return result.map(drop),
            }
            attempt += 1;
        }
    }

    /// The device with this id; `None` if it does not exist or is real.
    pub(crate) async fn find_device(&self, ssd_id: SsdId) -> Result<Option<Device>, ApiError> {
        let url = join(&self.users, &format!("/api/devices/{ssd_id}"))?;
        match self.send(self.client.get(url)).await {
            Err(ApiError::Rejected { status: StatusCode::NOT_FOUND, .. }) => Ok(None),
            found => Ok(Some(found?.json().await?)),
        }
    }

    /// The page of all devices that begins after `cursor`, or the first page.
    pub(crate) async fn list_devices(&self, cursor: Option<SsdId>) -> Result<DevicePage, ApiError> {
        let mut url = join(&self.users, "/api/devices?limit=1000")?;
        if let Some(cursor) = cursor {
            url.query_pairs_mut().append_pair("cursor", &cursor.to_string());
        }
        Ok(self.send(self.client.get(url)).await?.json().await?)
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response, ApiError> {
        let request =
            request.bearer_auth(self.tokens.token().await.map_err(|error| ApiError::Unavailable(error.into()))?);
        let request = match telemetry::current_traceparent() {
            Some(traceparent) => request.header("traceparent", traceparent),
            None => request,
        };
        let response = request.send().await?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        if status == StatusCode::UNAUTHORIZED {
            self.tokens.renew();
        }
        // The next token may be accepted.
        let is_temporary = matches!(status, StatusCode::UNAUTHORIZED | StatusCode::TOO_MANY_REQUESTS);
        if status.is_server_error() || is_temporary {
            return Err(ApiError::Unavailable(anyhow::anyhow!("the service answered {status}")));
        }
        let problem: serde_json::Value = response.json().await.unwrap_or_default();
        let detail = problem["detail"].as_str().unwrap_or("no detail in the response").to_owned();
        Err(ApiError::Rejected { status, detail })
    }
}

fn join(base: &Url, path: &str) -> Result<Url, ApiError> {
    base.join(path).map_err(|error| ApiError::Unavailable(error.into()))
}
