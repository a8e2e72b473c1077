//! The access token of the simulated clients, which are the client `generator` of the API.

use anyhow::Context;
use off_cli::home::client_file;
use off_kit::{backoff::Backoff, secret};
use reqwest::Client;
use serde_json::Value;
use std::{path::Path, sync::Arc, time::Duration};
use tokio::{sync::watch, task::JoinHandle};

/// Attempts to get the first token; the system has just started.
const MAX_ATTEMPTS: usize = 30;

/// How often the token is renewed: often enough that a run sees new tokens while faults are injected.
const RENEW_INTERVAL: Duration = Duration::from_secs(5);

/// The current access token, renewed in the background. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Tokens {
    current: watch::Receiver<Arc<str>>,
    _renewing: Arc<AbortOnDrop>,
}

#[derive(Debug)]
struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Tokens {
    /// Gets the first token from the gateway at `url`, with the secret in the folder `secrets`.
    pub(crate) async fn start(client: Client, url: &str, secrets: &Path) -> anyhow::Result<Self> {
        let (url, secret) = (format!("{url}/oauth/token"), secret::read(&secrets.join(client_file("generator")))?);
        let (mut backoff, mut first) = (Backoff::default(), None);
        for _ in 0..MAX_ATTEMPTS {
            first = request(&client, &url, &secret).await;
            if first.is_some() {
                break;
            }
            tokio::time::sleep(backoff.pause()).await;
        }
        let (sender, current) = watch::channel(first.context("no access token for the clients")?);
        let renewing = tokio::spawn(async move {
            loop {
                tokio::time::sleep(RENEW_INTERVAL).await;
                // While the gateway or the auth service is away, the last token stays valid.
                if let Some(token) = request(&client, &url, &secret).await {
                    sender.send_replace(token);
                }
            }
        });
        Ok(Self { current, _renewing: Arc::new(AbortOnDrop(renewing)) })
    }

    /// The current token.
    pub(crate) fn current(&self) -> Arc<str> {
        self.current.borrow().clone()
    }
}

async fn request(client: &Client, url: &str, secret: &str) -> Option<Arc<str>> {
    let request = client.post(url).basic_auth("generator", Some(secret));
    let request = request.header("content-type", "application/x-www-form-urlencoded");
    let response = request.body("grant_type=client_credentials").send().await.ok()?;
    let body: Value = response.json().await.ok()?;
    body["access_token"].as_str().map(Into::into)
}
