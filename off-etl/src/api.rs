//! Imports from the HTTP API of Open Food Facts, page by page and within its rate limit.
//!
//! The API allows ten searches a minute and bans clients that send more. It refuses requests with an HTML page and the
//! status 429, 503 or even 200. Use an export for the whole catalog.

use crate::{
    filter::Filter,
    import::ImportOptions,
    observer::Observer,
    record::{FIELDS, Record},
    reject::RejectReason,
    report::Report,
    sink::Sink,
    source::{Place, SourceName},
    validation::{Rules, ValidatedChunk},
};
use anyhow::Context;
use chrono::{DateTime, Utc};
use off_kit::{Clock, backoff::Backoff, schedule::Schedule};
use reqwest::{
    Client, StatusCode,
    header::{self, HeaderMap},
};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};
use tokio::{sync::Mutex, time::Instant};
use tracing::{info, warn};
use url::Url;

/// Minimum time between two searches: the API allows ten a minute.
const MIN_PERIOD: Duration = Duration::from_secs(6);

/// Products on a page, the maximum of the API.
const PAGE_SIZE: &str = "100";

/// Attempts per page before the import fails.
const MAX_ATTEMPTS: u32 = 8;

/// Longer `Retry-After` times of the API are cut to this.
const MAX_RETRY_AFTER: Duration = Duration::from_mins(10);

/// Size of a response body that is read, in bytes; a page of these fields is below 2 MiB.
const MAX_RESPONSE_SIZE: usize = 32 * 1024 * 1024;

/// Settings for the API.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub struct ApiConfig {
    /// URL of the API; https://world.openfoodfacts.net is its test server.
    #[arg(long, env = "ETL_API_URL", default_value = "https://world.openfoodfacts.org", value_name = "URL")]
    pub api_url: Url,
    /// Seconds between two pages; at least 6, because ten searches a minute are allowed.
    #[arg(long, env = "ETL_RUN_PERIOD", default_value_t = 10, value_name = "SECONDS")]
    pub run_period: u64,
    /// Pages to read, of 100 products each; 0 reads all.
    #[arg(long, env = "ETL_MAX_RUNS", default_value_t = 10, value_name = "N")]
    pub max_runs: u32,
    /// Contact for Open Food Facts, required for the API: an e-mail address or a web page.
    #[arg(long, env = "ETL_CONTACT", value_name = "CONTACT")]
    pub contact: Option<String>,
}

/// A page of a search.
#[derive(Debug, Deserialize)]
struct Page {
    /// Unparsed, so that an invalid product does not invalidate the others.
    products: Vec<Box<RawValue>>,
}

/// A client of the API.
#[derive(Debug)]
pub struct Api {
    client: Client,
    url: Url,
    period: Duration,
    max_runs: u32,
    clock: Clock,
    /// When the last search was sent. Keeps the rate limit over all callers, also after failed searches.
    last_request: Mutex<Option<Instant>>,
    /// Whether the API has answered before.
    was_reached: AtomicBool,
}

/// Why a page could not be fetched.
#[derive(Debug, thiserror::Error)]
enum PageError {
    /// Worth a retry, after `retry_after` if the API names a time.
    #[error("{reason}")]
    Transient { reason: String, retry_after: Option<Duration> },
    #[error("cannot connect: is there a network, and is ETL_API_URL right? ({0})")]
    Unreachable(String),
    #[error("the API answered {0}: is ETL_API_URL right?")]
    Permanent(StatusCode),
}

impl Api {
    /// A client that waits by `clock`. A real import passes a real clock, independent of the speed of the simulation.
    ///
    /// Fails without a contact, because Open Food Facts asks for one.
    pub fn new(config: &ApiConfig, clock: Clock) -> anyhow::Result<Self> {
        let contact = config
            .contact
            .as_deref()
            .context("ETL_CONTACT is missing: Open Food Facts asks API clients for an e-mail address or a web page")?;
        // Fails if a provider is installed already, which is then the same one.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder()
            .user_agent(format!("off/{} ({})", env!("CARGO_PKG_VERSION"), contact))
            .timeout(Duration::from_mins(1))
            .connect_timeout(Duration::from_secs(10))
            .build()
            .context("ETL_CONTACT is not valid in a User-Agent header")?;
        let period = Duration::from_secs(config.run_period).max(MIN_PERIOD);
        Ok(Self {
            client,
            url: config.api_url.clone(),
            period,
            max_runs: config.max_runs,
            clock,
            last_request: Mutex::new(None),
            was_reached: AtomicBool::new(false),
        })
    }

    /// Imports one page per period, until the last page, `max_runs` or the limit of products. Resumes an interrupted
    /// search at its page.
    pub async fn import(&self, options: ImportOptions<'_>, observer: &mut impl Observer) -> anyhow::Result<Report> {
        let ImportOptions { choice, db, .. } = options;
        let (name, identity) =
            (SourceName::Api.to_string(), format!("search of {}, {} pages", self.url, self.max_runs));
        let rules = Rules::of(choice);
        let mut sink = Sink::open(db, Some(&identity), choice, &name).await?;
        let mut schedule = Schedule::new().await?;
        schedule.every(self.clock.real_wait(self.period), ()).await?;
        schedule.start().await?;
        loop {
            let place = sink.place();
            let page = u32::try_from(place.offset)? + 1;
            let is_enough = self.max_runs != 0 && page > self.max_runs || sink.has_enough(choice);
            let records = if is_enough { Vec::new() } else { self.fetch_page(page, &choice.filter).await? };
            if records.is_empty() {
                observer.on_report(&name, sink.report());
                sink.finish(None).await?;
                return sink.close().await;
            }
            sink.add(validate_page(&records, place, &rules), choice);
            sink.flush().await?;
            let report = sink.report();
            info!("imported page {page} of the API: {} records read so far, {} new products", report.read, report.new);
            observer.on_page(report);
            if !(page == self.max_runs || sink.has_enough(choice)) {
                schedule.next().await?;
            }
        }
    }

    /// The records of a page. Retries transient errors with backoff.
    async fn fetch_page(&self, page: u32, filter: &Filter) -> anyhow::Result<Vec<Box<RawValue>>> {
        let mut backoff = Backoff::new(Duration::from_secs(10), Duration::from_mins(5));
        let mut attempt = 1;
        let was_reached = self.was_reached.load(Ordering::Relaxed);
        loop {
            let (reason, retry_after) = match self.request_page(page, filter).await {
                Ok(page) => {
                    self.was_reached.store(true, Ordering::Relaxed);
                    return Ok(page.products);
                }
                Err(PageError::Transient { reason, retry_after }) => (reason, retry_after),
                // Without a network the first request fails at once. After a success, an outage is retried.
                Err(PageError::Unreachable(reason)) if was_reached => (reason, None),
                Err(error) => return Err(error).with_context(|| format!("page {page} of {}", self.url)),
            };
            anyhow::ensure!(
                attempt < MAX_ATTEMPTS,
                "page {page} of {} failed after {MAX_ATTEMPTS} attempts, last error: {reason}",
                self.url
            );
            let pause = retry_after.map_or_else(|| backoff.pause(), |after| after.min(MAX_RETRY_AFTER));
            let pause = pause.max(self.period);
            warn!("page {page} failed, trying again in {} s: {reason}", pause.as_secs());
            self.clock.sleep(pause).await;
            attempt += 1;
        }
    }

    /// Waits until the rate limit allows another search.
    async fn wait_for_rate_limit(&self) {
        let mut last_request = self.last_request.lock().await;
        if let Some(last_request) = *last_request {
            tokio::time::sleep_until(last_request + self.clock.real_wait(MIN_PERIOD)).await;
        }
        *last_request = Some(Instant::now());
    }

    /// Requests a page once.
    async fn request_page(&self, page: u32, filter: &Filter) -> Result<Page, PageError> {
        self.wait_for_rate_limit().await;
        let transient = |reason: String| PageError::Transient { reason, retry_after: None };
        let url = self.url.join("/api/v2/search").map_err(|error| transient(error.to_string()))?;
        let page = page.to_string();
        let mut query =
            vec![("fields", FIELDS), ("page_size", PAGE_SIZE), ("page", page.as_str()), ("sort_by", "unique_scans_n")];
        let filters = [
            ("countries_tags", &filter.country),
            ("categories_tags", &filter.category),
            ("brands_tags", &filter.brand),
        ];
        query.extend(filters.into_iter().filter_map(|(field, value)| Some((field, value.as_deref()?))));
        let sent = self.client.get(url).query(&query).send().await;
        let mut response = sent.map_err(|error| {
            let (is_connect, error) = (error.is_connect(), anyhow::Error::from(error.without_url()));
            if is_connect { PageError::Unreachable(format!("{error:#}")) } else { transient(format!("{error:#}")) }
        })?;
        let status = response.status();
        if status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error() {
            let retry_after = retry_after(response.headers(), self.clock.now());
            return Err(PageError::Transient { reason: format!("the API answered {status}"), retry_after });
        }
        if !status.is_success() {
            return Err(PageError::Permanent(status));
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| transient(error.to_string()))? {
            body.extend_from_slice(&chunk);
            if body.len() > MAX_RESPONSE_SIZE {
                return Err(transient(format!("the response is larger than {MAX_RESPONSE_SIZE} bytes")));
            }
        }
        // A busy server answers 200 with an HTML page.
        if body.trim_ascii_start().starts_with(b"<") {
            return Err(transient("the API answered with an HTML page".to_owned()));
        }
        serde_json::from_slice(&body)
            .map_err(|error| transient(format!("the response is not a page of products: {error}")))
    }
}

/// Validates the records of the page at `place`.
fn validate_page(records: &[Box<RawValue>], place: Place, rules: &Rules) -> ValidatedChunk {
    let end = Place { offset: place.offset + 1, line: place.line + records.len() as u64 };
    let mut validated = ValidatedChunk::new(end);
    for (number, record) in (place.line + 1..).zip(records) {
        validated.validate(rules, number, Record::read(record.get().as_bytes()).map_err(|_| RejectReason::NotJson));
    }
    validated
}

/// The `Retry-After` header, in seconds or as a date (RFC 9110, section 10.2.3).
fn retry_after(headers: &HeaderMap, now: DateTime<Utc>) -> Option<Duration> {
    let value = headers.get(header::RETRY_AFTER)?.to_str().ok()?;
    let until = || (DateTime::parse_from_rfc2822(value).ok()?.to_utc() - now).to_std().ok();
    value.parse().map(Duration::from_secs).ok().or_else(until)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_read_in_seconds_and_as_a_date() {
        let now = DateTime::parse_from_rfc3339("2026-01-01T00:00:00Z").unwrap().to_utc();
        let wait = |value: &str| {
            let headers = HeaderMap::from_iter([(header::RETRY_AFTER, value.parse().unwrap())]);
            retry_after(&headers, now).map(|wait| wait.as_secs())
        };
        assert_eq!(wait("120"), Some(120));
        assert_eq!(wait("Thu, 01 Jan 2026 00:01:30 GMT"), Some(90));
        assert_eq!(wait("Wed, 31 Dec 2025 23:59:00 GMT"), None);
        assert_eq!(wait("soon"), None);
    }
}
