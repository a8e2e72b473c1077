//! The access tokens of a program that calls the API: OAuth client credentials, RFC 6749 section 4.4.

use crate::{Kit, LogLimit, backoff::Backoff, secret};
use anyhow::Context;
use reqwest::Client;
use serde::Deserialize;
use std::{fmt, path::PathBuf, sync::Arc, time::Duration};
use tokio::{
    sync::{Notify, watch},
    time::{sleep, timeout},
};
use tracing::warn;
use url::Url;

/// Timeout of a request for a token.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a caller waits for the first token.
const FIRST_TOKEN_TIMEOUT: Duration = Duration::from_secs(10);

/// Time between two requests when tokens are refused.
const MIN_INTERVAL: Duration = Duration::from_secs(1);

/// The credentials of a program.
#[derive(Clone, clap::Args)]
#[group(skip)]
pub struct Credentials {
    /// The URL that issues access tokens for client credentials.
    #[arg(long, env = "AUTH_TOKEN_URL", value_name = "URL", default_value = "http://127.0.0.1:8080/oauth/token")]
    pub auth_token_url: Url,
    /// The file with the secret of this program as a client of the API.
    #[arg(long, env = "CLIENT_SECRET_FILE", value_name = "FILE")]
    pub client_secret_file: Option<PathBuf>,
    /// A token that the caller has already, in place of a secret; for tests.
    #[arg(skip)]
    pub token: Option<String>,
}

/// Without the token.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { auth_token_url, client_secret_file, token: _ } = self;
        let mut fields = f.debug_struct("Credentials");
        fields.field("auth_token_url", &auth_token_url.as_str()).field("client_secret_file", client_secret_file);
        fields.finish_non_exhaustive()
    }
}

/// The access token of a program, renewed before it expires. Clones share it.
#[derive(Clone)]
pub struct TokenSource {
    current: watch::Receiver<Option<Arc<str>>>,
    /// Asks for another token before the current one is half through its life.
    renew: Arc<Notify>,
}

/// Without the token.
impl fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenSource").finish_non_exhaustive()
    }
}

/// There is no token yet.
#[derive(Debug, thiserror::Error)]
#[error("the auth service has not issued an access token yet")]
pub struct NoToken;

/// The response to a request for a token.
#[derive(Deserialize)]
struct Issued {
    access_token: String,
    /// In seconds.
    expires_in: u64,
}

impl TokenSource {
    /// The tokens of the client `id`. Spawns a task on `kit` that renews them.
    ///
    /// # Errors
    /// The file with the secret is not set or cannot be read.
    pub fn start(kit: &Kit, id: &'static str, credentials: &Credentials) -> anyhow::Result<Self> {
        if let Some(token) = &credentials.token {
            let current = watch::channel(Some(token.as_str().into())).1;
            return Ok(Self { current, renew: Arc::default() });
        }
        let file = credentials.client_secret_file.as_deref();
        let secret = secret::read(file.context("CLIENT_SECRET_FILE is not set, so no access token can be obtained")?)?;
        // Fails if a provider is installed already, which is the same one.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder().timeout(REQUEST_TIMEOUT).no_proxy().build();
        let client = client.context("cannot create the client for tokens")?;
        let (sender, current) = watch::channel(None);
        let renew = Arc::<Notify>::default();
        let asked = renew.clone();
        let (url, tasks) = (credentials.auth_token_url.clone(), kit.tasks.clone());
        kit.tasks.spawn("access token", async move {
            let (log_limit, mut backoff) = (LogLimit::default(), Backoff::default());
            loop {
                let issued = tokio::select! {
                    () = tasks.stopping() => return Ok(()),
                    issued = request(&client, &url, id, &secret) => issued,
                };
                let pause = match issued {
                    Ok(Issued { access_token, expires_in }) => {
                        sender.send_replace(Some(access_token.into()));
                        backoff = Backoff::default();
                        // The rest of its life is for retries.
                        Duration::from_secs(expires_in) / 2
                    }
                    Err(error) => {
                        if let Some(suppressed) = log_limit.admit() {
                            warn!(suppressed, "cannot obtain an access token from {url}, retrying: {error:#}");
                        }
                        backoff.pause()
                    }
                };
                tokio::select! {
                    () = tasks.stopping() => return Ok(()),
                    () = sleep(pause) => {}
                    () = asked.notified() => sleep(MIN_INTERVAL).await,
                }
            }
        });
        Ok(Self { current, renew })
    }

    /// Gets another token, because a service refused the current one: the key that signed it was retired, for example.
    pub fn renew(&self) {
        self.renew.notify_one();
    }

    /// The current token. Waits 10 s for the first one.
    pub async fn token(&self) -> Result<Arc<str>, NoToken> {
        let mut current = self.current.clone();
        let token = timeout(FIRST_TOKEN_TIMEOUT, current.wait_for(Option::is_some)).await;
        token.ok().and_then(Result::ok).and_then(|token| token.clone()).ok_or(NoToken)
    }
}

async fn request(client: &Client, url: &Url, id: &str, secret: &str) -> anyhow::Result<Issued> {
    let request = client.post(url.clone()).basic_auth(id, Some(secret));
    let request = request.header("content-type", "application/x-www-form-urlencoded");
    let response = request.body("grant_type=client_credentials").send().await?;
    let status = response.status();
    anyhow::ensure!(status.is_success(), "the answer is {status}: {}", response.text().await.unwrap_or_default());
    Ok(response.json().await?)
}
