//! Signs in people who have just registered, at the auth service.

use anyhow::{Context, anyhow, ensure};
use off_events::headers::TRACEPARENT;
use off_kit::{Kit, http::RequestSource, telemetry};
use reqwest::{Client, header::USER_AGENT, redirect};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::{fmt, time::Duration};
use url::Url;
use utoipa::ToSchema;

/// Timeout of a sign-in. The person is registered already, and can sign in later.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Maximum size of an answer, in bytes.
const MAX_BYTES: usize = 64 * 1024;

/// The tokens of a person who is signed in.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub(crate) struct Session {
    /// A JWT: send it as `Authorization: Bearer …`.
    access_token: String,
    #[schema(example = "Bearer")]
    token_type: String,
    /// Seconds until the access token expires.
    #[schema(example = 600)]
    expires_in: i64,
    /// What the access token allows.
    #[schema(example = "person")]
    scope: String,
    /// Gets the next tokens at `POST /api/refresh`.
    refresh_token: String,
    /// Seconds until the refresh token expires.
    #[schema(example = 2_592_000)]
    refresh_expires_in: i64,
}

/// Without the tokens.
impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("scope", &self.scope).finish_non_exhaustive()
    }
}

/// Client of the auth service. Clones share connections.
#[derive(Debug, Clone)]
pub(crate) struct AuthClient {
    client: Client,
    login: Url,
}

impl AuthClient {
    /// A client of the auth service at `url`.
    pub(crate) fn new(kit: &Kit, url: &Url) -> anyhow::Result<Self> {
        // Fails if a provider is installed already, which is the same one.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let timeout = kit.clock.shortened(TIMEOUT);
        // A password must not follow a redirect or go through a proxy.
        let client = Client::builder().timeout(timeout).no_proxy().redirect(redirect::Policy::none()).build();
        let client = client.context("cannot create the client of the auth service")?;
        Ok(Self { client, login: url.join("/api/login").context("AUTH_URL cannot have a path")? })
    }

    /// Signs in a person, on behalf of `source`. Not retried: a person can sign in at any time.
    pub(crate) async fn sign_in(&self, email: &str, password: &str, source: &RequestSource) -> anyhow::Result<Session> {
        let mut request = self.client.post(self.login.clone()).json(&json!({"email": email, "password": password}));
        let headers = [
            (USER_AGENT.as_str(), source.user_agent.clone()),
            ("x-forwarded-for", source.address.clone()),
            (TRACEPARENT, telemetry::current_traceparent().unwrap_or_default()),
        ];
        for (name, value) in headers.into_iter().filter(|(_, value)| !value.is_empty()) {
            request = request.header(name, value);
        }
        let mut response = request.send().await?;
        ensure!(response.status().is_success(), "the answer is {}", response.status());
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await? {
            ensure!(body.len() + chunk.len() <= MAX_BYTES, "the answer has more than {MAX_BYTES} bytes");
            body.extend_from_slice(&chunk);
        }
        // The cause is left out: it may quote a token.
        serde_json::from_slice(&body).map_err(|_| anyhow!("the answer has no tokens"))
    }
}
