//! Fetches the public keys from the auth service or from a file.

use super::{Config, JwkSet, KeySet};
use crate::{Clock, Kit, LogLimit, backoff::Backoff};
use anyhow::Context;
use reqwest::Client;
use std::{path::PathBuf, sync::Arc, time::Duration};
use tokio::{
    fs,
    sync::Mutex,
    time::{Instant, sleep},
};
use tracing::warn;
use url::Url;

/// How often the keys are fetched. A new key is published an hour before it signs.
const REFRESH_INTERVAL: Duration = Duration::from_mins(5);

/// A token with an unknown key id causes at most one fetch in this time: anyone can invent ids.
const MIN_FETCH_INTERVAL: Duration = Duration::from_secs(30);

/// Timeout of a fetch. Requests with unknown key ids wait for it.
const FETCH_TIMEOUT: Duration = Duration::from_secs(2);

/// Maximum size of a key set, in bytes.
const MAX_BYTES: usize = 64 * 1024;

/// Where the keys come from.
#[derive(Debug, Clone)]
enum Origin {
    Url(Client, Url),
    File(PathBuf),
}

/// Keeps a [`KeySet`] up to date. Clones share the limit on fetches.
#[derive(Debug, Clone)]
pub(super) struct KeySource {
    origin: Origin,
    keys: KeySet,
    clock: Clock,
    /// When the last fetch ended.
    fetched_at: Arc<Mutex<Option<Instant>>>,
    log_limit: Arc<LogLimit>,
}

impl KeySource {
    /// Spawns a task on `kit` that fetches the keys. The service is ready once there are some.
    pub(super) fn start(kit: &Kit, config: &Config, keys: &KeySet) -> anyhow::Result<Self> {
        let origin = if let Some(file) = &config.auth_keys_file {
            Origin::File(file.clone())
        } else {
            // Fails if a provider is installed already, which is the same one.
            let _ = rustls::crypto::ring::default_provider().install_default();
            let client = Client::builder().timeout(FETCH_TIMEOUT).no_proxy().build();
            Origin::Url(client.context("cannot create the client for keys")?, config.auth_jwks_url.clone())
        };
        let source = Self {
            origin,
            keys: keys.clone(),
            clock: kit.clock,
            fetched_at: Arc::default(),
            log_limit: Arc::default(),
        };
        let (running, tasks) = (source.clone(), kit.tasks.clone());
        kit.tasks.spawn("token keys", async move {
            tokio::select! {
                () = running.run() => {}
                () = tasks.stopping() => {}
            }
            Ok(())
        });
        Ok(source)
    }

    async fn run(&self) {
        let mut backoff = Backoff::default();
        loop {
            let fetched = self.fetch_now().await;
            // Keys that are there are used until others replace them, however long that takes.
            if fetched || !self.keys.is_empty() {
                backoff = Backoff::default();
                sleep(self.clock.shortened(REFRESH_INTERVAL)).await;
            } else {
                sleep(backoff.pause()).await;
            }
        }
    }

    /// Fetches the keys because a token names an unknown one, unless they were fetched a short time ago. Waits for a
    /// fetch that is in progress.
    pub(super) async fn fetch_for_unknown(&self) {
        let last = self.fetched_at.lock().await;
        let limit = self.clock.shortened(MIN_FETCH_INTERVAL);
        if last.is_none_or(|last| last.elapsed() >= limit) {
            drop(last);
            self.fetch_now().await;
        }
    }

    /// Whether the keys were replaced.
    async fn fetch_now(&self) -> bool {
        let mut fetched_at = self.fetched_at.lock().await;
        let fetched = self.fetch().await;
        *fetched_at = Some(Instant::now());
        match fetched {
            Ok(()) => true,
            Err(error) => {
                if let Some(suppressed) = self.log_limit.admit() {
                    warn!(suppressed, "cannot fetch the keys that verify tokens, the last ones stay valid: {error:#}");
                }
                false
            }
        }
    }

    async fn fetch(&self) -> anyhow::Result<()> {
        let text = match &self.origin {
            Origin::File(file) => fs::read(file).await.with_context(|| format!("cannot read {}", file.display()))?,
            Origin::Url(client, url) => {
                let mut response = client.get(url.clone()).send().await?.error_for_status()?;
                let mut body = Vec::new();
                while let Some(chunk) = response.chunk().await? {
                    anyhow::ensure!(body.len() + chunk.len() <= MAX_BYTES, "{url} answers more than {MAX_BYTES} bytes");
                    body.extend_from_slice(&chunk);
                }
                body
            }
        };
        let jwks: JwkSet = serde_json::from_slice(&text).context("not a JSON Web Key Set")?;
        Ok(self.keys.replace(&jwks.keys)?)
    }
}
