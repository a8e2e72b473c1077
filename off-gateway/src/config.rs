//! Settings.

use crate::{
    rates::{Class, Rate},
    routes::Upstream,
};
use anyhow::{Context, ensure};
use axum::http::{HeaderValue, Uri, uri};
use std::{path::PathBuf, str::FromStr, time::Duration};
use url::Url;

/// The settings of the gateway.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub struct Config {
    /// The broker, for the sessions and keys that were revoked.
    #[command(flatten)]
    pub bus: off_kit::bus::Config,
    /// The services.
    #[command(flatten)]
    pub services: Services,
    /// How many requests each kind of caller may make.
    #[command(flatten)]
    pub rates: Rates,
    /// The certificates.
    #[command(flatten)]
    pub tls: Tls,
    /// How many trusted proxies are in front of the gateway. With n, the n-th address from the right in X-Forwarded-For
    /// is that of the client; with 0 the header is ignored.
    #[arg(long, env = "TRUSTED_PROXIES", default_value_t = 0, value_name = "N")]
    pub trusted_proxies: u8,
    /// The origins whose pages may use the API, like https://shop.example.org, separated by commas.
    #[arg(long, env = "CORS_ORIGINS", value_name = "ORIGINS", value_delimiter = ',', value_parser = parse_origin)]
    pub cors_origins: Vec<HeaderValue>,
    /// Maximum number of connections of one address, or of one /56 with IPv6; 0 for no limit. Behind trusted proxies
    /// there is none, because they have the connections.
    #[arg(long, env = "MAX_CONNECTIONS_PER_ADDRESS", default_value_t = 1024, value_name = "N")]
    pub max_connections_per_address: usize,
    /// Maximum size of a request body, in bytes.
    #[arg(long, env = "MAX_BODY_BYTES", default_value_t = 64 * 1024, value_name = "BYTES")]
    pub max_body_bytes: usize,
    /// How long a service may take until it sends the head of its answer. More than 5s, for which a request may ask the
    /// orders service to wait.
    #[arg(long, env = "UPSTREAM_TIMEOUT", default_value = "10s", value_name = "DURATION",
        value_parser = humantime::parse_duration)]
    pub upstream_timeout: Duration,
    /// Where people see a trace, with `{trace_id}` in place of its id; the page links there.
    #[arg(long, env = "TRACE_URL", value_name = "URL", value_parser = parse_trace_url)]
    pub trace_url: Option<String>,
    /// Whether pages show the photos of products, which browsers load from images.openfoodfacts.org.
    #[arg(long, env = "PRODUCT_PHOTOS", default_value_t = true, action = clap::ArgAction::Set, value_name = "BOOL")]
    pub product_photos: bool,
    /// Maximum number of streams: WebSockets, server-sent events and other answers without a length.
    #[arg(long, env = "MAX_STREAMS", default_value_t = 4096, value_name = "N")]
    pub max_streams: usize,
    /// Maximum number of streams of one caller.
    #[arg(long, env = "MAX_STREAMS_PER_CALLER", default_value_t = 32, value_name = "N")]
    pub max_streams_per_caller: usize,
}

/// The addresses of the services, each with that of its health port.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub struct Services {
    /// The URL of the auth service.
    #[arg(long, env = "AUTH_URL", default_value = "http://127.0.0.1:8085", value_name = "URL")]
    pub auth_url: Url,
    /// The URL of the auth service's health port.
    #[arg(long, env = "AUTH_HEALTH_URL", default_value = "http://127.0.0.1:9085", value_name = "URL")]
    pub auth_health_url: Url,
    /// The URL of the users service.
    #[arg(long, env = "USERS_URL", default_value = "http://127.0.0.1:8081", value_name = "URL")]
    pub users_url: Url,
    /// The URL of the users service's health port.
    #[arg(long, env = "USERS_HEALTH_URL", default_value = "http://127.0.0.1:9081", value_name = "URL")]
    pub users_health_url: Url,
    /// The URL of the orders service.
    #[arg(long, env = "ORDERS_URL", default_value = "http://127.0.0.1:8082", value_name = "URL")]
    pub orders_url: Url,
    /// The URL of the orders service's health port.
    #[arg(long, env = "ORDERS_HEALTH_URL", default_value = "http://127.0.0.1:9082", value_name = "URL")]
    pub orders_health_url: Url,
    /// The URL of the billing service.
    #[arg(long, env = "BILLING_URL", default_value = "http://127.0.0.1:8086", value_name = "URL")]
    pub billing_url: Url,
    /// The URL of the billing service's health port.
    #[arg(long, env = "BILLING_HEALTH_URL", default_value = "http://127.0.0.1:9086", value_name = "URL")]
    pub billing_health_url: Url,
    /// The URL of the notifications service.
    #[arg(long, env = "NOTIFICATIONS_URL", default_value = "http://127.0.0.1:8083", value_name = "URL")]
    pub notifications_url: Url,
    /// The URL of the notifications service's health port.
    #[arg(long, env = "NOTIFICATIONS_HEALTH_URL", default_value = "http://127.0.0.1:9083", value_name = "URL")]
    pub notifications_health_url: Url,
    /// The URL of the operator service, if there is one.
    #[arg(long, env = "OPERATOR_URL", value_name = "URL")]
    pub operator_url: Option<Url>,
    /// The URL of the operator service's health port.
    #[arg(long, env = "OPERATOR_HEALTH_URL", value_name = "URL")]
    pub operator_health_url: Option<Url>,
    /// The URL of the generator, if there is one.
    #[arg(long, env = "GENERATOR_URL", value_name = "URL")]
    pub generator_url: Option<Url>,
    /// The URL of the generator's health port.
    #[arg(long, env = "GENERATOR_HEALTH_URL", value_name = "URL")]
    pub generator_health_url: Option<Url>,
}

/// Rate limits: requests in a time, like `600/1m`, or `off`. As many may come at once; then each has to wait its turn.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub struct Rates {
    /// Requests of an address without a token.
    #[arg(long, env = "RATE_ANONYMOUS", default_value = "600/1m", value_name = "RATE")]
    pub rate_anonymous: RateSetting,
    /// Requests of an address that sign in, register, ask for a token, or change a password or a profile.
    #[arg(long, env = "RATE_SIGN_IN", default_value = "30/1m", value_name = "RATE")]
    pub rate_sign_in: RateSetting,
    /// Requests of a person.
    #[arg(long, env = "RATE_PERSON", default_value = "600/1m", value_name = "RATE")]
    pub rate_person: RateSetting,
    /// Requests of a device.
    #[arg(long, env = "RATE_DEVICE", default_value = "600/1m", value_name = "RATE")]
    pub rate_device: RateSetting,
    /// Requests of a caller that simulates households or operates.
    #[arg(long, env = "RATE_CLIENT", default_value = "3000000/1m", value_name = "RATE")]
    pub rate_client: RateSetting,
}

/// The certificates of the API port. Without them it is plain HTTP, for a proxy in front that has them.
#[derive(Debug, Clone, Default, clap::Args)]
#[group(skip)]
pub struct Tls {
    /// The certificate chain, in PEM format. It is read again when it changes.
    #[arg(long, env = "TLS_CERT_FILE", value_name = "FILE", requires = "tls_key_file")]
    pub tls_cert_file: Option<PathBuf>,
    /// The private key of the certificate, in PEM format.
    #[arg(long, env = "TLS_KEY_FILE", value_name = "FILE", requires = "tls_cert_file")]
    pub tls_key_file: Option<PathBuf>,
}

/// A [`Rate`], or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateSetting(pub Option<Rate>);

impl FromStr for RateSetting {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        if text == "off" {
            return Ok(Self(None));
        }
        let (requests, window) = text.split_once('/').context("expected REQUESTS/TIME, like 600/1m, or off")?;
        let rate = Rate { requests: requests.parse()?, window: humantime::parse_duration(window)? };
        let day = Duration::from_hours(24);
        ensure!(rate.requests > 0 && !rate.window.is_zero() && rate.window <= day, "expected 1/1ms to N/24h, or off");
        Ok(Self(Some(rate)))
    }
}

impl Rates {
    /// The rate of a class of callers.
    pub(crate) fn of(&self, class: Class) -> Option<Rate> {
        match class {
            Class::Anonymous | Class::InvalidToken => self.rate_anonymous.0,
            Class::SignIn | Class::InvalidKey => self.rate_sign_in.0,
            Class::Person => self.rate_person.0,
            Class::Device => self.rate_device.0,
            Class::Client => self.rate_client.0,
        }
    }
}

fn parse_trace_url(text: &str) -> Result<String, String> {
    let is_url = Url::parse(text).is_ok_and(|url| matches!(url.scheme(), "http" | "https"));
    if is_url && text.contains("{trace_id}") {
        return Ok(text.to_owned());
    }
    Err("expected a URL like http://localhost:16686/trace/{trace_id}".to_owned())
}

fn parse_origin(text: &str) -> Result<HeaderValue, String> {
    let error = || "expected origins like https://shop.example.org, without a path".to_owned();
    let text = text.trim();
    let url = Url::parse(text).map_err(|_| error())?;
    if url.origin().ascii_serialization() == text { text.parse().map_err(|_| error()) } else { Err(error()) }
}

/// The start of the URLs of a service.
#[derive(Debug, Clone)]
pub(crate) struct Base(uri::Authority);

impl Base {
    fn new(url: &Url, setting: &str) -> anyhow::Result<Self> {
        let uri: Uri = url.as_str().parse().with_context(|| format!("{setting}: '{url}' is not a URL"))?;
        let is_plain =
            url.scheme() == "http" && url.path() == "/" && url.query().is_none() && url.username().is_empty();
        ensure!(is_plain, "{setting}: expected http://HOST:PORT, without a path");
        Ok(Self(uri.authority().cloned().with_context(|| format!("{setting}: '{url}' has no host"))?))
    }

    /// The URL of `target` there.
    pub(crate) fn join(&self, target: uri::PathAndQuery) -> Uri {
        let mut parts = uri::Parts::default();
        parts.scheme = Some(uri::Scheme::HTTP);
        parts.authority = Some(self.0.clone());
        parts.path_and_query = Some(target);
        // Cannot fail: all three parts are there.
        Uri::from_parts(parts).unwrap_or_default()
    }
}

/// Where a service is.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) api: Base,
    pub(crate) health: Base,
}

impl Services {
    /// Where `upstream` is; `None` if it is not there.
    pub(crate) fn place(&self, upstream: Upstream) -> anyhow::Result<Option<Place>> {
        let name = upstream.name().to_ascii_uppercase();
        let optional = |api, health| match (api, health) {
            (Some(api), Some(health)) => Ok(Some((api, health))),
            (None, None) => Ok(None),
            _ => anyhow::bail!("{name}_URL and {name}_HEALTH_URL: set both, or none"),
        };
        let urls = match upstream {
            Upstream::Auth => Some((&self.auth_url, &self.auth_health_url)),
            Upstream::Users => Some((&self.users_url, &self.users_health_url)),
            Upstream::Orders => Some((&self.orders_url, &self.orders_health_url)),
            Upstream::Billing => Some((&self.billing_url, &self.billing_health_url)),
            Upstream::Notifications => Some((&self.notifications_url, &self.notifications_health_url)),
            Upstream::Operator => optional(self.operator_url.as_ref(), self.operator_health_url.as_ref())?,
            Upstream::Generator => optional(self.generator_url.as_ref(), self.generator_health_url.as_ref())?,
        };
        let Some((api, health)) = urls else { return Ok(None) };
        let (api, health) =
            (Base::new(api, &format!("{name}_URL"))?, Base::new(health, &format!("{name}_HEALTH_URL"))?);
        Ok(Some(Place { api, health }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_a_number_of_requests_in_a_time() {
        let rate = |text: &str| text.parse::<RateSetting>();
        assert_eq!(rate("600/1m").unwrap().0, Some(Rate { requests: 600, window: Duration::from_mins(1) }));
        assert_eq!(rate("off").unwrap().0, None);
        for wrong in ["600", "0/1m", "1/0s", "x/1m", "1/2days", ""] {
            assert!(rate(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_origin_is_exact() {
        assert!(parse_origin("https://shop.example.org").is_ok() && parse_origin("http://localhost:3000").is_ok());
        for wrong in ["*", "null", "https://shop.example.org/", "shop.example.org", "https://Shop.example.org"] {
            assert!(parse_origin(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_service_has_no_path_and_no_password() {
        let base = |url: &str| Base::new(&url.parse().unwrap(), "USERS_URL");
        assert_eq!(base("http://users:8081").unwrap().join("/a?b".parse().unwrap()), "http://users:8081/a?b");
        for wrong in ["https://users", "http://users/x", "http://u:p@users"] {
            assert!(base(wrong).is_err(), "{wrong}");
        }
    }
}
