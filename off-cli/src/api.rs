//! A client of the public API, for commands.

use crate::home::{Home, client_file};
use anyhow::{Context, bail};
use off_kit::secret;
use reqwest::{Client, Method, RequestBuilder, Response};
use serde::Deserialize;
use serde_json::Value;
use std::{path::PathBuf, time::Duration};
use url::Url;

/// Timeout of a request.
const TIMEOUT: Duration = Duration::from_secs(15);

/// Where the API is.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub(crate) struct Options {
    /// The address of the API; without it, that of the system that runs in the folder.
    #[arg(long = "url", env = "OFF_URL", value_name = "URL")]
    url: Option<Url>,
    /// The file with the secret of the client; without it, that in the folder.
    #[arg(long, env = "CLIENT_SECRET_FILE", value_name = "FILE")]
    client_secret_file: Option<PathBuf>,
}

/// The public API of a system.
#[derive(Debug)]
pub(crate) struct Api {
    client: Client,
    base: Url,
}

/// An access token.
#[derive(Deserialize)]
pub(crate) struct Token {
    pub(crate) access_token: String,
}

impl Api {
    /// The API that `options` name, or that of the system which runs in `home`.
    pub(crate) fn new(home: &Home, options: &Options) -> anyhow::Result<Self> {
        // Fails if a provider is installed already, which is the same one.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let running = || home.running()?.services.into_iter().find(|service| service.name == "gateway");
        let base = if let Some(url) = &options.url {
            url.clone()
        } else {
            let gateway = running().with_context(|| {
                format!("nothing runs in {}: start it with `off up`, or set --url", home.folder().display())
            })?;
            gateway.url.parse().context("the address of the gateway is no URL")?
        };
        let client = Client::builder().timeout(TIMEOUT).no_proxy().build().context("cannot create the HTTP client")?;
        Ok(Self { client, base })
    }

    /// A request for a path.
    pub(crate) fn request(&self, method: Method, path: &str) -> anyhow::Result<RequestBuilder> {
        Ok(self.client.request(method, self.base.join(path)?))
    }

    /// An access token of a person.
    pub(crate) async fn sign_in(&self, email: &str, password: &str) -> anyhow::Result<Token> {
        let body = serde_json::json!({"email": email, "password": password});
        let request = self.request(Method::POST, "/api/login")?.json(&body);
        Ok(self.send(request).await?.json().await?)
    }

    /// An access token of a client, with the secret in the file that `options` name, or in the folder.
    pub(crate) async fn client_token(&self, home: &Home, options: &Options, client: &str) -> anyhow::Result<Token> {
        let file = options.client_secret_file.clone();
        let file = file.unwrap_or_else(|| home.secrets().join(client_file(client)));
        let secret = secret::read(&file).with_context(|| format!("there is no secret of a client {client}"))?;
        let request = self.request(Method::POST, "/oauth/token")?.basic_auth(client, Some(secret));
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        Ok(self.send(request.body("grant_type=client_credentials")).await?.json().await?)
    }

    /// Sends a request; the error has the detail of the answer.
    pub(crate) async fn send(&self, request: RequestBuilder) -> anyhow::Result<Response> {
        let response = request.send().await.with_context(|| format!("{} does not answer", self.base))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body: Value = response.json().await.unwrap_or_default();
        let detail = ["detail", "error_description", "error"].into_iter().find_map(|field| body[field].as_str());
        bail!("{} answers {status}: {}", self.base, detail.unwrap_or("no detail"))
    }
}
