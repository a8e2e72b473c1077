//! Asking a running service how it is, from the same machine.

use super::Config;
use anyhow::{Context, bail};
use axum::body::Body;
use http_body_util::BodyExt;
use hyper::{Request, header};
use hyper_util::rt::TokioIo;
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};
use tokio::net::TcpStream;

/// How long the answer may take; a service that needs longer is not well.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// What the service says that listens where `config` tells: its `/readyz`, or an error with the reason.
pub async fn ask_whether_ready(config: &Config) -> anyhow::Result<String> {
    // Who listens on every address is asked on the nearest.
    let host = match config.http_service_host {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        host => host,
    };
    let address = SocketAddr::new(host, config.http_service_port);
    let asked = tokio::time::timeout(ANSWER_WITHIN, ask(address)).await;
    asked.with_context(|| format!("{address} does not answer within {} s", ANSWER_WITHIN.as_secs()))?
}

async fn ask(address: SocketAddr) -> anyhow::Result<String> {
    let stream = TcpStream::connect(address).await.with_context(|| format!("nothing listens on {address}"))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = Request::get("/readyz").header(header::HOST, address.to_string()).body(Body::empty())?;
    let answer = sender.send_request(request).await.with_context(|| format!("{address} does not answer"))?;
    let status = answer.status();
    let said = answer.into_body().collect().await?.to_bytes();
    let said = String::from_utf8_lossy(&said).into_owned();
    if !status.is_success() {
        bail!("{address} is not ready: {said}");
    }
    Ok(said)
}
