//! The HTTP API of Open Food Facts: politely, page by page.
//!
//! It allows ten searches a minute and bans who asks for more; refusals come as HTML, with the status 429 or 503 or
//! even 200. Whoever wants the whole catalogue reads an export instead.

use crate::{
    choice::Choice,
    filter::Filter,
    import::{Sink, rules_of},
    pipeline::JudgedPiece,
    product::Reject,
    record::{FIELDS, Record},
    report::Report,
    source::Place,
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
use sqlx::PgPool;
use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};
use tokio::{sync::Mutex, time::Instant};
use tracing::{info, warn};
use url::Url;

/// Ten searches a minute, and never one more.
const SHORTEST_PERIOD: Duration = Duration::from_secs(6);

/// Products on a page; the API gives no more.
const PAGE_SIZE: &str = "100";

/// How often a page is asked for before the import gives up.
const ATTEMPTS: u32 = 8;

/// The longest the API's own Retry-After is heeded.
const LONGEST_RETRY_AFTER: Duration = Duration::from_mins(10);

/// The largest answer that is read, in bytes; a page of these fields is below 2 MiB.
const LARGEST_ANSWER: usize = 32 * 1024 * 1024;

/// How the API is asked.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub struct ApiConfig {
    /// Where the API is; https://world.openfoodfacts.net is for trying things out.
    #[arg(long, env = "ETL_API_URL", default_value = "https://world.openfoodfacts.org", value_name = "URL")]
    pub api_url: Url,
    /// Seconds between two pages; never less than 6, because ten searches a minute are allowed.
    #[arg(long, env = "ETL_RUN_PERIOD", default_value_t = 10, value_name = "SECONDS")]
    pub run_period: u64,
    /// Pages to read, of 100 products each; 0 reads to the end.
    #[arg(long, env = "ETL_MAX_RUNS", default_value_t = 10, value_name = "N")]
    pub max_runs: u32,
    /// Who asks, so that Open Food Facts can write to them: an e-mail address or a page.
    #[arg(long, env = "ETL_CONTACT", value_name = "CONTACT")]
    pub contact: Option<String>,
}

/// A page of a search.
#[derive(Debug, Deserialize)]
struct Page {
    /// Each as it came, so that a broken one spoils no other.
    products: Vec<Box<RawValue>>,
}

/// A reader of the API.
#[derive(Debug)]
pub struct Api {
    client: Client,
    url: Url,
    period: Duration,
    max_runs: u32,
    clock: Clock,
    /// When the last search was asked for; the pace is kept whoever asks and however it went.
    asked: Mutex<Option<Instant>>,
    /// Whether it has answered.
    was_reached: AtomicBool,
}

/// Why a page did not come.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    /// Worth another try, after this time if the API says one.
    #[error("{reason}")]
    Passing { reason: String, retry_after: Option<Duration> },
    #[error("cannot connect: is there a network, and is ETL_API_URL right? ({0})")]
    Unreachable(String),
    #[error("the API answered {0}: is ETL_API_URL right?")]
    Final(StatusCode),
}

impl Api {
    /// A reader whose waits are those of `clock`; a real import takes the real one, whatever the simulation's speed.
    pub fn new(config: &ApiConfig, clock: Clock) -> anyhow::Result<Self> {
        let contact = config.contact.as_deref().context(
            "ETL_CONTACT: Open Food Facts asks its readers for an e-mail address or a page, so that it can write to them",
        )?;
        // Whoever was first chose the same.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder()
            .user_agent(format!("off/{} ({})", env!("CARGO_PKG_VERSION"), contact))
            .timeout(Duration::from_mins(1))
            .connect_timeout(Duration::from_secs(10))
            .build()
            .context("ETL_CONTACT cannot be part of a User-Agent")?;
        let period = Duration::from_secs(config.run_period).max(SHORTEST_PERIOD);
        Ok(Self {
            client,
            url: config.api_url.clone(),
            period,
            max_runs: config.max_runs,
            clock,
            asked: Mutex::new(None),
            was_reached: AtomicBool::new(false),
        })
    }

    /// Reads page after page into the catalogue, one each period, until the last one or the most that was asked for;
    /// tells `on_page` after each what it came to so far, and `on_report` what it came to, before the import counts as finished.
    /// A search that was interrupted goes on at its page.
    pub async fn import(
        &self,
        choice: &Choice,
        db: Option<&PgPool>,
        mut on_page: impl FnMut(&Report),
        on_report: impl FnOnce(&Report),
    ) -> anyhow::Result<Report> {
        let (rules, identity) = (rules_of(choice), format!("search of {}, {} pages", self.url, self.max_runs));
        let mut sink = Sink::open(db, Some(&identity), choice, "the Open Food Facts API").await?;
        let mut schedule = Schedule::new().await?;
        schedule.every(self.clock.real_wait(self.period), ()).await?;
        schedule.start().await?;
        loop {
            let Place { offset: pages, line } = sink.place();
            let page = u32::try_from(pages)? + 1;
            let is_enough = self.max_runs != 0 && page > self.max_runs || sink.has_enough(choice);
            let records = if is_enough { Vec::new() } else { self.find_page(page, &choice.filter).await? };
            if records.is_empty() {
                on_report(sink.report());
                sink.finish(None).await?;
                return sink.close().await;
            }
            let end = Place { offset: pages + 1, line: line + records.len() as u64 };
            let read = |record: &RawValue| Record::read(record.get().as_bytes()).map_err(|_| Reject::NotJson);
            let mut judged = JudgedPiece::until(end);
            for (number, record) in (line + 1..).zip(records) {
                judged.judge(&rules, number, read(&record));
            }
            sink.take(judged, choice);
            sink.flush().await?;
            let report = sink.report();
            info!("page {page} of the API: {} products read, {} new", report.read, report.loaded);
            on_page(report);
            if !(page == self.max_runs || sink.has_enough(choice)) {
                schedule.next().await?;
            }
        }
    }

    /// The records of a page; asks again, later each time, while the API refuses for now.
    async fn find_page(&self, page: u32, filter: &Filter) -> anyhow::Result<Vec<Box<RawValue>>> {
        let mut backoff = Backoff::new(Duration::from_secs(10), Duration::from_mins(5));
        let mut attempt = 1;
        let was_reached = self.was_reached.load(Ordering::Relaxed);
        loop {
            let (reason, retry_after) = match self.ask(page, filter).await {
                Ok(page) => {
                    self.was_reached.store(true, Ordering::Relaxed);
                    return Ok(page.products);
                }
                Err(Refusal::Passing { reason, retry_after }) => (reason, retry_after),
                // A network that was there comes back; without one there is nothing to wait for.
                Err(Refusal::Unreachable(reason)) if was_reached => (reason, None),
                Err(refusal) => return Err(refusal).with_context(|| format!("page {page} of {}", self.url)),
            };
            anyhow::ensure!(
                attempt < ATTEMPTS,
                "page {page} of {} did not come in {ATTEMPTS} attempts, at last: {reason}",
                self.url
            );
            let pause = retry_after.map_or_else(|| backoff.pause(), |after| after.min(LONGEST_RETRY_AFTER));
            let pause = pause.max(self.period);
            warn!("page {page} did not come, trying again in {} s: {reason}", pause.as_secs());
            self.clock.sleep(pause).await;
            attempt += 1;
        }
    }

    /// Waits until another search is allowed.
    async fn keep_pace(&self) {
        let mut asked = self.asked.lock().await;
        if let Some(asked) = *asked {
            tokio::time::sleep_until(asked + self.clock.real_wait(SHORTEST_PERIOD)).await;
        }
        *asked = Some(Instant::now());
    }

    async fn ask(&self, page: u32, filter: &Filter) -> Result<Page, Refusal> {
        self.keep_pace().await;
        let passing = |reason: String| Refusal::Passing { reason, retry_after: None };
        let url = self.url.join("/api/v2/search").map_err(|error| passing(error.to_string()))?;
        let page = page.to_string();
        let mut query =
            vec![("fields", FIELDS), ("page_size", PAGE_SIZE), ("page", page.as_str()), ("sort_by", "unique_scans_n")];
        let wishes = [
            ("countries_tags", &filter.country),
            ("categories_tags", &filter.category),
            ("brands_tags", &filter.brand),
        ];
        query.extend(wishes.into_iter().filter_map(|(field, wish)| Some((field, wish.as_deref()?))));
        let sent = self.client.get(url).query(&query).send().await;
        let mut response = sent.map_err(|error| {
            let (is_connect, error) = (error.is_connect(), anyhow::Error::from(error.without_url()));
            if is_connect { Refusal::Unreachable(format!("{error:#}")) } else { passing(format!("{error:#}")) }
        })?;
        let status = response.status();
        if status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error() {
            let retry_after = retry_after(response.headers(), self.clock.now());
            return Err(Refusal::Passing { reason: format!("the API answered {status}"), retry_after });
        }
        if !status.is_success() {
            return Err(Refusal::Final(status));
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| passing(error.to_string()))? {
            body.extend_from_slice(&chunk);
            if body.len() > LARGEST_ANSWER {
                return Err(passing(format!("the answer is larger than {LARGEST_ANSWER} bytes")));
            }
        }
        // A busy server answers 200 with a page for people.
        if body.trim_ascii_start().starts_with(b"<") {
            return Err(passing("the API answered with an HTML page".to_owned()));
        }
        serde_json::from_slice(&body).map_err(|error| passing(format!("the answer is not a page of products: {error}")))
    }
}

/// How long the API asks to be left alone, which it says in seconds or as a time (RFC 9110, section 10.2.3).
fn retry_after(headers: &HeaderMap, now: DateTime<Utc>) -> Option<Duration> {
    let value = headers.get(header::RETRY_AFTER)?.to_str().ok()?;
    let until = || (DateTime::parse_from_rfc2822(value).ok()?.to_utc() - now).to_std().ok();
    value.parse().map(Duration::from_secs).ok().or_else(until)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_to_ask_again_comes_in_two_forms() {
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
