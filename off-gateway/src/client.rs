//! The HTTP client for the services, with its connection pools.

use bytes::Bytes;
use http_body_util::{BodyExt, Either, Full, Limited};
use hyper::{Request, Response, StatusCode, Uri, body::Incoming};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use std::time::Duration;

/// Timeout for a new connection to a service.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// How long an idle connection is kept; services close theirs after 75 s.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// Maximum number of idle connections to each service.
const MAX_IDLE: usize = 256;

/// A body that is in memory, or one that is passed on as it arrives, up to a limit.
pub(crate) type OutBody = Either<Full<Bytes>, Limited<Incoming>>;

/// The client; clones share its pools.
pub(crate) type HttpClient = Client<HttpConnector, OutBody>;

pub(crate) fn new() -> HttpClient {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
    Client::builder(TokioExecutor::new())
        .pool_idle_timeout(IDLE_TIMEOUT)
        .pool_max_idle_per_host(MAX_IDLE)
        // Without a timer, idle connections are closed only when the next request looks at them.
        .pool_timer(TokioTimer::new())
        .build(connector)
}

/// Sends a request of the gateway itself, and reads at most `limit` bytes of the answer.
pub(crate) async fn send(
    client: &HttpClient,
    request: Request<OutBody>,
    limit: usize,
    timeout: Duration,
) -> anyhow::Result<Response<Bytes>> {
    let exchanged = async {
        let (parts, body) = client.request(request).await?.into_parts();
        let body = Limited::new(body, limit).collect().await.map_err(anyhow::Error::from_boxed)?;
        Ok(Response::from_parts(parts, body.to_bytes()))
    };
    tokio::time::timeout(timeout, exchanged).await?
}

/// [`send`] of a `GET` request.
pub(crate) async fn get(
    client: &HttpClient,
    uri: Uri,
    limit: usize,
    timeout: Duration,
) -> anyhow::Result<(StatusCode, Bytes)> {
    let mut request = Request::new(in_memory(Bytes::new()));
    *request.uri_mut() = uri;
    let response = send(client, request, limit, timeout).await?;
    Ok((response.status(), response.into_body()))
}

pub(crate) fn in_memory(body: Bytes) -> OutBody {
    Either::Left(Full::new(body))
}
