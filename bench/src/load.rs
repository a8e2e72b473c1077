//! A closed loop of requests: each connection sends the next one as soon as the last is answered.

use anyhow::Context;
use bytes::Bytes;
use futures::future::try_join_all;
use hdrhistogram::Histogram;
use http_body_util::{BodyExt, Full};
use hyper::{Request, StatusCode, client::conn::http1};
use hyper_util::rt::TokioIo;
use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{net::TcpStream, time::Instant};

/// What came of a load.
#[derive(Debug)]
pub struct Outcome {
    pub elapsed: Duration,
    /// Answers by their status.
    pub statuses: BTreeMap<u16, u64>,
    /// Latencies in microseconds.
    pub latencies: Histogram<u64>,
}

impl Outcome {
    pub fn empty() -> anyhow::Result<Self> {
        let latencies = Histogram::new_with_bounds(1, 60_000_000, 3)?;
        Ok(Self { elapsed: Duration::ZERO, statuses: BTreeMap::new(), latencies })
    }

    pub fn note(&mut self, status: StatusCode, latency: Duration) {
        *self.statuses.entry(status.as_u16()).or_default() += 1;
        self.latencies.saturating_record(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
    }

    pub fn add(&mut self, other: &Self) -> anyhow::Result<()> {
        for (status, count) in &other.statuses {
            *self.statuses.entry(*status).or_default() += count;
        }
        Ok(self.latencies.add(&other.latencies)?)
    }

    /// Answers in a second.
    pub fn rate(&self) -> f64 {
        self.latencies.len() as f64 / self.elapsed.as_secs_f64()
    }

    /// A latency in milliseconds.
    pub fn ms(&self, quantile: f64) -> f64 {
        self.latencies.value_at_quantile(quantile) as f64 / 1000.0
    }

    /// Fails unless every answer had this status.
    pub fn expect_only(&self, status: u16) -> anyhow::Result<()> {
        let others: Vec<_> = self.statuses.iter().filter(|&(&found, _)| found != status).collect();
        anyhow::ensure!(others.is_empty(), "expected only {status}, and there was (status, times) {others:?}");
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
