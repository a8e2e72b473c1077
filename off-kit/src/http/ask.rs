//! Asking a server on the same machine how it is.

use anyhow::{Context, bail};
use axum::body::Body;
use http_body_util::{BodyExt, Limited};
use hyper::{Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use std::{net::SocketAddr, time::Duration};
use tokio::net::TcpStream;

/// How long the answer may take; a service that needs longer is not well.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// The longest answer that is read, in bytes.
const LONGEST_ANSWER: usize = 64 * 1024;

/// What the service says whose health port is at `address`: its `/readyz`, or an error with the reason.
pub async fn ask_whether_ready(address: SocketAddr) -> anyhow::Result<String> {
    let (status, said) = get(address, "/readyz").await?;
    if !status.is_success() {
        bail!("{address} is not ready: {said}");
    }
    Ok(said)
}

/// What the server at `address` answers to a `GET` of `path`.
pub(crate) async fn get(address: SocketAddr, path: &str) -> anyhow::Result<(StatusCode, String)> {
    let answered = tokio::time::timeout(ANSWER_WITHIN, request(address, path)).await;
    answered.with_context(|| format!("{address} does not answer within {} s", ANSWER_WITHIN.as_secs()))?
}

async fn request(address: SocketAddr, path: &str) -> anyhow::Result<(StatusCode, String)> {
    let stream = TcpStream::connect(address).await.with_context(|| format!("nothing listens on {address}"))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = Request::get(path).header(header::HOST, address.to_string()).body(Body::empty())?;
    let answer = sender.send_request(request).await.with_context(|| format!("{address} does not answer"))?;
    let status = answer.status();
    let said = Limited::new(answer.into_body(), LONGEST_ANSWER).collect().await.map_err(anyhow::Error::from_boxed)?;
    Ok((status, String::from_utf8_lossy(&said.to_bytes()).into_owned()))
}
