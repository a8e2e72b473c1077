//! Requests: in a closed loop, where each connection sends the next one as soon as the last is answered, and in an open
//! one, where they are due at a rate, whether earlier ones were answered or not.

use anyhow::Context;
use bytes::Bytes;
use futures::future::try_join_all;
use hdrhistogram::Histogram;
use http_body_util::{BodyExt, Full};
use hyper::{Request, StatusCode, client::conn::http1};
use hyper_util::rt::TokioIo;
use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{net::TcpStream, task::JoinSet, time::Instant};

/// What came of a load.
#[derive(Debug, Clone)]
pub struct Outcome {
    pub elapsed: Duration,
    /// Latencies in microseconds of the answers with each status.
    answers: BTreeMap<u16, Histogram<u64>>,
    none: Histogram<u64>,
}

impl Outcome {
    pub fn empty() -> anyhow::Result<Self> {
        let none = Histogram::new_with_bounds(1, 60_000_000, 3)?;
        Ok(Self { elapsed: Duration::ZERO, answers: BTreeMap::new(), none })
    }

    pub fn note(&mut self, status: StatusCode, latency: Duration) {
        let latencies = self.answers.entry(status.as_u16()).or_insert_with(|| self.none.clone());
        latencies.saturating_record(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
    }

    pub fn add(&mut self, other: &Self) -> anyhow::Result<()> {
        for (status, latencies) in &other.answers {
            self.answers.entry(*status).or_insert_with(|| self.none.clone()).add(latencies)?;
        }
        Ok(())
    }

    /// What had this status.
    #[must_use]
    pub fn of(&self, status: u16) -> Self {
        let mut of = self.clone();
        of.answers.retain(|&found, _| found == status);
        of
    }

    pub fn count(&self) -> u64 {
        self.answers.values().map(Histogram::len).sum()
    }

    /// Answers in a second.
    pub fn rate(&self) -> f64 {
        self.count() as f64 / self.elapsed.as_secs_f64()
    }

    /// A latency in milliseconds.
    pub fn ms(&self, quantile: f64) -> f64 {
        let mut all = self.none.clone();
        for latencies in self.answers.values() {
            all += latencies;
        }
        all.value_at_quantile(quantile) as f64 / 1000.0
    }

    /// Fails unless every answer had one of these.
    pub fn expect_only(&self, statuses: &[u16]) -> anyhow::Result<()> {
        let found: Vec<_> = self.answers.iter().map(|(status, latencies)| (status, latencies.len())).collect();
        let expected = self.answers.keys().all(|status| statuses.contains(status));
        anyhow::ensure!(expected, "expected only {statuses:?}, and there was (status, times) {found:?}");
        Ok(())
    }
}

/// A connection that is used for one request after the other.
#[derive(Debug)]
pub struct Connection(http1::SendRequest<Full<Bytes>>);

impl Connection {
    pub async fn open(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await.with_context(|| format!("{address} does not answer"))?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Self(sender))
    }

    /// Sends a request and reads the whole answer.
    pub async fn send(&mut self, request: Request<Full<Bytes>>) -> anyhow::Result<StatusCode> {
        self.0.ready().await?;
        let answer = self.0.send_request(request).await?;
        let status = answer.status();
        let mut body = answer.into_body();
        while let Some(frame) = body.frame().await {
            frame?;
        }
        Ok(status)
    }
}

/// The body that `path` answers with.
pub async fn fetch(address: SocketAddr, path: &str) -> anyhow::Result<Bytes> {
    let mut connection = Connection::open(address).await?;
    Ok(connection.0.send_request(get(path)?).await?.into_body().collect().await?.to_bytes())
}

/// `GET path`.
pub fn get(path: &str) -> anyhow::Result<Request<Full<Bytes>>> {
    Ok(Request::get(path).header("host", "localhost").body(Full::default())?)
}

/// `POST path` with a JSON body.
pub fn post(path: &str, body: String) -> anyhow::Result<Request<Full<Bytes>>> {
    let request = Request::post(path).header("host", "localhost").header("content-type", "application/json");
    Ok(request.body(Full::new(body.into()))?)
}

/// Sends what `request` makes of a running number over so many connections for a while.
pub async fn load<R>(address: SocketAddr, connections: u64, length: Duration, request: R) -> anyhow::Result<Outcome>
where
    R: Fn(u64) -> anyhow::Result<Request<Full<Bytes>>> + Send + Sync + 'static,
{
    let request = Arc::new(request);
    let started = Instant::now();
    let users = (0..connections).map(|first| {
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
                outcome.note(status, sent.elapsed());
            }
            anyhow::Ok(outcome)
        })
    });
    let outcomes = try_join_all(users).await?;
    let mut whole = Outcome::empty()?;
    whole.elapsed = started.elapsed();
    for outcome in outcomes {
        whole.add(&outcome?)?;
    }
    Ok(whole)
}

/// What came of a rate that was offered.
#[derive(Debug)]
pub struct Offered {
    pub outcome: Outcome,
    /// Requests that were due while every connection was taken.
    pub unsent: u64,
    /// Requests whose connection ended without an answer.
    pub unanswered: u64,
}

impl Offered {
    /// Fails unless every request that was sent was answered with this status.
    pub fn expect_all(&self, status: u16) -> anyhow::Result<()> {
        anyhow::ensure!(self.unanswered == 0, "{} requests were not answered", self.unanswered);
        self.outcome.expect_only(&[status])
    }
}

/// What the requests of an open loop share.
struct Shared {
    /// Used in turn, so that none lies idle until the service ends it.
    idle: VecDeque<Connection>,
    outcome: Outcome,
}

/// Sends what `request` makes of a running number at `rate` a second for a while, over at most so many connections.
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
    let mut under_way = JoinSet::new();
    let (mut number, mut unsent, mut unanswered) = (0, 0, 0);
    let started = Instant::now();
    while started.elapsed() < length {
        let due = started.elapsed().as_secs_f64() * rate;
        while (number as f64) < due {
            let next = request(number)?;
            number += 1;
            let idle = lock(&shared).idle.pop_front();
            if idle.is_none() && under_way.len() >= connections {
                unsent += 1;
                continue;
            }
            let shared = shared.clone();
            under_way.spawn(async move {
                let mut connection = match idle {
                    Some(connection) => connection,
                    None => Connection::open(address).await?,
                };
                let sent = Instant::now();
                let status = connection.send(next).await?;
                let mut shared = lock(&shared);
                shared.outcome.note(status, sent.elapsed());
                shared.idle.push_back(connection);
                anyhow::Ok(())
            });
        }
        while let Some(ended) = under_way.try_join_next() {
            unanswered += u64::from(ended?.is_err());
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    while let Some(ended) = under_way.join_next().await {
        unanswered += u64::from(ended?.is_err());
    }
    let mut outcome = lock(&shared).outcome.clone();
    outcome.elapsed = started.elapsed();
    Ok(Offered { outcome, unsent, unanswered })
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
