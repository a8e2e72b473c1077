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

/// After a fetch in vain, unknown key ids cause none for this long: anyone can invent ids. A fetch that brings the key
/// does not count, so that keys may follow each other. Whoever invents ids delays a key that replaces a stolen one by
/// this long, so it is short.
const PAUSE_AFTER_VAIN_FETCH: Duration = Duration::from_secs(5);

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
    /// When a fetch last did not bring the key that was asked for. Held during fetches.
    vain_fetch_at: Arc<Mutex<Option<Instant>>>,
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
            vain_fetch_at: Arc::default(),
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

    /// Fetches the keys because a token names one that is unknown, unless another one was looked for in vain a short
    /// time ago. Waits for a fetch that is in progress.
    pub(super) async fn look_for(&self, kid: &str) {
        let mut vain_fetch_at = self.vain_fetch_at.lock().await;
        let pause = self.clock.shortened(PAUSE_AFTER_VAIN_FETCH);
        if self.keys.get(kid).is_some() || vain_fetch_at.is_some_and(|at| at.elapsed() < pause) {
            return;
        }
        self.fetch_or_warn().await;
        if self.keys.get(kid).is_none() {
            *vain_fetch_at = Some(Instant::now());
        }
    }

    /// Whether the keys were replaced.
    async fn fetch_now(&self) -> bool {
        let _fetching = self.vain_fetch_at.lock().await;
        self.fetch_or_warn().await
    }

    async fn fetch_or_warn(&self) -> bool {
        match self.fetch().await {
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
