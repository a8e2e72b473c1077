//! HTTP load. In a closed loop each connection sends the next request after the response to the last one. In an open
//! loop requests are sent at a fixed rate, regardless of outstanding responses.

use anyhow::{Context, ensure};
use bytes::Bytes;
use futures::future::try_join_all;
use hdrhistogram::Histogram;
use http_body_util::{BodyExt, Full};
use hyper::{Request, StatusCode, client::conn::http1};
use hyper_util::rt::TokioIo;
use off_testkit::tokens;
use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{net::TcpStream, task::JoinSet, time::Instant};

/// The header with the access token of all requests.
static AUTHORIZATION: LazyLock<String> = LazyLock::new(|| format!("Bearer {}", tokens::test_client()));

/// Responses to a load.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// How long the load took.
    pub elapsed: Duration,
    /// Latencies of the responses in microseconds, by status.
    responses: BTreeMap<u16, Histogram<u64>>,
    /// An empty histogram, to be cloned.
    empty_histogram: Histogram<u64>,
}

impl Outcome {
    /// No responses.
    pub fn empty() -> anyhow::Result<Self> {
        let empty_histogram = Histogram::new_with_bounds(1, 60_000_000, 3)?;
        Ok(Self { elapsed: Duration::ZERO, responses: BTreeMap::new(), empty_histogram })
    }

    /// Records a response.
    pub fn record(&mut self, status: StatusCode, latency: Duration) {
        let latencies = self.responses.entry(status.as_u16()).or_insert_with(|| self.empty_histogram.clone());
        latencies.saturating_record(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
    }

    /// Adds the responses of another load.
    pub fn add(&mut self, other: &Self) -> anyhow::Result<()> {
        for (status, latencies) in &other.responses {
            self.responses.entry(*status).or_insert_with(|| self.empty_histogram.clone()).add(latencies)?;
        }
        Ok(())
    }

    /// The responses with this status.
    #[must_use]
    pub fn of(&self, status: u16) -> Self {
        let mut of = self.clone();
        of.responses.retain(|&found, _| found == status);
        of
    }

    /// Number of responses.
    pub fn count(&self) -> u64 {
        self.responses.values().map(Histogram::len).sum()
    }

    /// Responses per second.
    pub fn rate(&self) -> f64 {
        self.count() as f64 / self.elapsed.as_secs_f64()
    }

    /// Latency at a quantile, in milliseconds.
    pub fn ms(&self, quantile: f64) -> f64 {
        let mut all = self.empty_histogram.clone();
        for latencies in self.responses.values() {
            all += latencies;
        }
        all.value_at_quantile(quantile) as f64 / 1000.0
    }

    /// Fails unless every response has one of these statuses.
    pub fn expect_only(&self, statuses: &[u16]) -> anyhow::Result<()> {
        let found: Vec<_> = self.responses.iter().map(|(status, latencies)| (status, latencies.len())).collect();
        let expected = self.responses.keys().all(|status| statuses.contains(status));
        anyhow::ensure!(expected, "expected only {statuses:?}, but received (status, count) {found:?}");
        Ok(())
    }
}

/// An HTTP/1.1 connection that sends one request at a time.
#[derive(Debug)]
pub struct Connection(http1::SendRequest<Full<Bytes>>);

impl Connection {
    /// Opens a connection.
    pub async fn open(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await.with_context(|| format!("cannot connect to {address}"))?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Self(sender))
    }

    /// Sends a request and reads the whole response.
    pub async fn send(&mut self, request: Request<Full<Bytes>>) -> anyhow::Result<StatusCode> {
        self.0.ready().await?;
        let response = self.0.send_request(request).await?;
        let status = response.status();
        let mut body = response.into_body();
        while let Some(frame) = body.frame().await {
            frame?;
        }
        Ok(status)
    }

    /// Sends a request; returns the status and the body of the response.
    pub async fn exchange(&mut self, request: Request<Full<Bytes>>) -> anyhow::Result<(StatusCode, Bytes)> {
        self.0.ready().await?;
        let (parts, body) = self.0.send_request(request).await?.into_parts();
        Ok((parts.status, body.collect().await?.to_bytes()))
    }
}

/// Body of the response to `GET path`.
pub async fn fetch(address: SocketAddr, path: &str) -> anyhow::Result<Bytes> {
    let mut connection = Connection::open(address).await?;
    Ok(connection.exchange(get(path)?).await?.1)
}

/// Builds `GET path`.
pub fn get(path: &str) -> anyhow::Result<Request<Full<Bytes>>> {
    let request = Request::get(path).header("host", "localhost").header("authorization", &*AUTHORIZATION);
    Ok(request.body(Full::default())?)
}

/// Builds `POST path` with a JSON body.
pub fn post(path: &str, body: String) -> anyhow::Result<Request<Full<Bytes>>> {
    let request = Request::post(path)
        .header("host", "localhost")
        .header("content-type", "application/json")
        .header("authorization", &*AUTHORIZATION);
    Ok(request.body(Full::new(body.into()))?)
}

/// Sends requests one after another over one connection. Returns the time of each in microseconds, except for the first
/// `warm_up`, and the size of the last body. Fails if a response is not a success.
pub async fn in_sequence(
    address: SocketAddr,
    requests: impl IntoIterator<Item = anyhow::Result<Request<Full<Bytes>>>>,
    warm_up: usize,
) -> anyhow::Result<(Histogram<u64>, usize)> {
    let mut connection = Connection::open(address).await?;
    let (mut times, mut bytes) = (Histogram::new_with_bounds(1, 60_000_000, 3)?, 0);
    for (number, request) in requests.into_iter().enumerate() {
        let request = request?;
        let path = request.uri().clone();
        let started = Instant::now();
        let (status, body) = connection.exchange(request).await?;
        let took = started.elapsed();
        ensure!(status.is_success(), "{path} was answered with {status}: {}", String::from_utf8_lossy(&body));
        bytes = body.len();
        if number >= warm_up {
            times.saturating_record(u64::try_from(took.as_micros())?);
        }
        // The state of the system is made once a second; with pauses some of the requests come right after it.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok((times, bytes))
}

/// Closed loop: sends requests over `connections` connections for `length`. `request` builds each request from a
/// running number.
pub async fn load<R>(address: SocketAddr, connections: u64, length: Duration, request: R) -> anyhow::Result<Outcome>
where
    R: Fn(u64) -> anyhow::Result<Request<Full<Bytes>>> + Send + Sync + 'static,
{
    let request = Arc::new(request);
    let started = Instant::now();
    let clients = (0..connections).map(|first| {
        let request = request.clone();
        tokio::spawn(async move {
            let mut connection = Connection::open(address).await?;
            let mut outcome = Outcome::empty()?;
            let mut number = first;
            while started.elapsed() < length {
                let next = request(number)?;
                number += connections;
                let sent = Instant::now();
                let status = connection.send(next).await?;
                outcome.record(status, sent.elapsed());
            }
            anyhow::Ok(outcome)
        })
    });
    let outcomes = try_join_all(clients).await?;
    let mut whole = Outcome::empty()?;
    whole.elapsed = started.elapsed();
    for outcome in outcomes {
        whole.add(&outcome?)?;
    }
    Ok(whole)
}

/// Result of an open loop.
#[derive(Debug)]
pub struct Offered {
    /// The responses.
    pub outcome: Outcome,
    /// Requests that were due while all connections were busy.
    pub unsent: u64,
    /// Requests whose connection closed without a response.
    pub unanswered: u64,
}

impl Offered {
    /// Fails unless every request that was sent got a response with this status.
    pub fn expect_all(&self, status: u16) -> anyhow::Result<()> {
        anyhow::ensure!(self.unanswered == 0, "{} requests got no response", self.unanswered);
        self.outcome.expect_only(&[status])
    }
}

/// State that the requests of an open loop share.
struct Shared {
    /// Idle connections, used in turn so that the service does not close one for being idle.
    idle: VecDeque<Connection>,
    outcome: Outcome,
}

/// Open loop: sends `rate` requests per second for `length`, over at most `connections` connections. `request` builds
/// each request from a running number.
pub async fn offer<R>(
    address: SocketAddr,
    rate: f64,
    length: Duration,
    connections: usize,
    request: R,
) -> anyhow::Result<Offered>
where
    R: Fn(u64) -> anyhow::Result<Request<Full<Bytes>>>,
{
    let shared = Arc::new(Mutex::new(Shared { idle: VecDeque::new(), outcome: Outcome::empty()? }));
    let mut in_flight = JoinSet::new();
    let (mut number, mut unsent, mut unanswered) = (0, 0, 0);
    let started = Instant::now();
    while started.elapsed() < length {
        let due = started.elapsed().as_secs_f64() * rate;
        while (number as f64) < due {
            let next = request(number)?;
            number += 1;
            let idle = lock(&shared).idle.pop_front();
            if idle.is_none() && in_flight.len() >= connections {
                unsent += 1;
                continue;
            }
            let shared = shared.clone();
            in_flight.spawn(async move {
                let mut connection = match idle {
                    Some(connection) => connection,
                    None => Connection::open(address).await?,
                };
                let sent = Instant::now();
                let status = connection.send(next).await?;
                let mut shared = lock(&shared);
                shared.outcome.record(status, sent.elapsed());
                shared.idle.push_back(connection);
                anyhow::Ok(())
            });
        }
        while let Some(ended) = in_flight.try_join_next() {
            unanswered += u64::from(ended?.is_err());
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    while let Some(ended) = in_flight.join_next().await {
        unanswered += u64::from(ended?.is_err());
    }
    let mut outcome = lock(&shared).outcome.clone();
    outcome.elapsed = started.elapsed();
    Ok(Offered { outcome, unsent, unanswered })
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
