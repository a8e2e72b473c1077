//! The people who order.

use crate::tokens::Tokens;
use anyhow::Context;
use off_events::{SsdId, UserId};
use off_kit::backoff::Backoff;
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};

/// Registered households, with two devices each.
const HOUSEHOLDS: u64 = 20;

/// The registered people and their devices.
#[derive(Debug, Default)]
pub(super) struct People {
    pub(super) simulated: Vec<UserId>,
    /// Those who become real before the load begins.
    pub(super) real: Vec<UserId>,
    /// The devices of all of them.
    pub(super) devices: Vec<SsdId>,
}

/// The e-mail address and the password of the person with this number.
pub(crate) fn credentials(number: u64) -> (String, &'static str) {
    (format!("ada-{number}@example.org"), "correct horse battery")
}

impl People {
    /// Some of the people with their numbers: half of them are real.
    pub(super) fn numbered(&self, count: usize) -> Vec<(u64, UserId)> {
        let pairs = self.simulated.iter().zip(&self.real).flat_map(|(simulated, real)| [*simulated, *real]);
        (0..).zip(pairs).take(count).collect()
    }

    /// Registers all households over the API.
    pub(super) async fn register(client: &Client, url: &str, tokens: &Tokens) -> anyhow::Result<Self> {
        let mut people = Self::default();
        for number in 0..HOUSEHOLDS {
            let registered = register_household(client, url, tokens, number).await?;
            let user = UserId(registered["user_id"].as_i64().context("no user_id in the response")?);
            if number % 2 == 0 {
                people.simulated.push(user);
            } else {
                people.real.push(user);
            }
            let devices = registered["devices"].as_array().context("no devices in the response")?;
            people.devices.extend(devices.iter().filter_map(|device| device["ssd_id"].as_i64()).map(SsdId));
        }
        Ok(people)
    }
}

/// Registers a household with two devices that the generator simulates. Retries until the service responds; returns its
/// response.
async fn register_household(client: &Client, url: &str, tokens: &Tokens, number: u64) -> anyhow::Result<Value> {
    let address = |device: u64| format!("02:0f:c0:00:{number:02x}:{device:02x}");
    let (email, password) = credentials(number);
    let body = json!({
        "user": {"first_name": "Ada", "last_name": "Example", "email": email, "password": password},
        "devices": [{"mac_address": address(0)}, {"mac_address": address(1)}],
    });
    let mut backoff = Backoff::default();
    for _ in 0..30 {
        let response =
            client.post(format!("{url}/api/register")).bearer_auth(tokens.current()).json(&body).send().await;
        match response {
            Ok(response) if response.status() == StatusCode::CREATED => return Ok(response.json().await?),
            Ok(response) if response.status().is_client_error() => {
                let status = response.status();
                anyhow::bail!("{url} rejected the registration of a household: {status} {}", response.text().await?);
            }
            _ => tokio::time::sleep(backoff.pause()).await,
        }
    }
    anyhow::bail!("the users service does not respond")
}
