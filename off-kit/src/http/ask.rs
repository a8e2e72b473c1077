//! HTTP client for the health of a server on the same machine.

use anyhow::{Context, bail};
use axum::body::Body;
use http_body_util::{BodyExt, Limited};
use hyper::{Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use std::{net::SocketAddr, time::Duration};
use tokio::net::TcpStream;

/// Timeout for a response; a service that takes longer is unhealthy.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Maximum size of a response body, in bytes.
const MAX_RESPONSE_BYTES: usize = 64 * 1024;

/// The `/readyz` response body of the service with its health port at `address`.
///
/// # Errors
/// The service does not answer within 5 s or is not ready.
pub async fn ask_whether_ready(address: SocketAddr) -> anyhow::Result<String> {
    let (status, body) = get(address, "/readyz").await?;
    if !status.is_success() {
        bail!("{address} is not ready: {body}");
    }
    Ok(body)
}

/// Status and body of a `GET` request for `path` to the server at `address`.
pub async fn get(address: SocketAddr, path: &str) -> anyhow::Result<(StatusCode, String)> {
    let result = tokio::time::timeout(RESPONSE_TIMEOUT, request(address, path)).await;
    result.with_context(|| format!("{address} does not answer within {} s", RESPONSE_TIMEOUT.as_secs()))?
}

async fn request(address: SocketAddr, path: &str) -> anyhow::Result<(StatusCode, String)> {
    let stream = TcpStream::connect(address).await.with_context(|| format!("nothing listens on {address}"))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = Request::get(path).header(header::HOST, address.to_string()).body(Body::empty())?;
    let response = sender.send_request(request).await.with_context(|| format!("{address} does not answer"))?;
    let status = response.status();
    let body = Limited::new(response.into_body(), MAX_RESPONSE_BYTES).collect();
    let body = body.await.map_err(anyhow::Error::from_boxed)?;
    Ok((status, String::from_utf8_lossy(&body.to_bytes()).into_owned()))
}
