//! Slow clients and overload: slow connections are closed, and other clients are not affected.

#![expect(clippy::unwrap_used, reason = "a failure here fails the test")]

use super::{start_faulty, start_faulty_with_short_timeouts};
use futures::{StreamExt, TryStreamExt, stream};
use off_testkit::{Running, eventually_within};
use std::{io, net::SocketAddr, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, timeout},
};

/// Divides the timeouts of the service, the longest of which is 75 s.
const DIVISOR: u32 = 50;

/// Much longer than the divided timeouts, and shorter than the others.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(8);

/// More than the maximum number of concurrent requests (512).
const REQUESTS: usize = 1024;

fn address(service: &Running) -> SocketAddr {
    service.http.base().trim_start_matches("http://").parse().unwrap()
}

async fn send(service: &Running, text: &str) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(address(service)).await?;
    stream.write_all(text.as_bytes()).await?;
    Ok(stream)
}

/// Sends `text` on [`REQUESTS`] connections. Opens at most 100 of them concurrently, because the backlog is small.
async fn send_many(service: &Running, text: &str) -> Vec<TcpStream> {
    stream::iter(0..REQUESTS).map(|_| send(service, text)).buffer_unordered(100).try_collect().await.unwrap()
}

#[tokio::test]
async fn a_client_that_never_finishes_the_head_is_disconnected() {
    let service = start_faulty_with_short_timeouts(DIVISOR).await;
    let mut slow = send(&service, "GET /api/nothing HTTP/1.1\r\nhost:").await.unwrap();
    let mut answer = Vec::new();
    let ended = async {
        loop {
            if let Ok(read) = timeout(Duration::from_secs(1), slow.read_to_end(&mut answer)).await {
                break read;
            }
            assert_eq!(service.health.get("/livez").await.status, 200);
        }
    };
    timeout(CLOSE_TIMEOUT, ended).await.expect("the connection ends").unwrap();
}

#[tokio::test]
async fn a_client_that_never_finishes_the_body_gets_503_in_time() {
    let service = start_faulty_with_short_timeouts(DIVISOR).await;
    let head = "POST /api/echo HTTP/1.1\r\nhost: localhost\r\ncontent-length: 10\r\n\r\nhalf";
    let mut slow = send(&service, head).await.unwrap();
    let mut answer = String::new();
    timeout(CLOSE_TIMEOUT, slow.read_to_string(&mut answer)).await.expect("a response in time").unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
}

#[tokio::test]
async fn slow_clients_do_not_count_against_the_concurrency_limit() {
    let service = start_faulty().await;
    let half = "POST /api/echo HTTP/1.1\r\nhost: localhost\r\ncontent-length: 10\r\n\r\nhalf";
    let connections = send_many(&service, half).await;
    let whole = "POST /api/echo HTTP/1.1\r\nhost: localhost\r\ncontent-length: 4\r\nconnection: close\r\n\r\nfull";
    let mut answer = String::new();
    send(&service, whole).await.unwrap().read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    drop(connections);
}

#[tokio::test]
async fn large_bodies_are_limited_and_small_ones_are_always_read() {
    let service = start_faulty().await;
    let head = "POST /api/echo HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n";
    let half = format!("{head}content-length: 60000\r\n\r\n{}", "x".repeat(5000));
    let connections = send_many(&service, &half).await;
    for (length, status) in [(60_000, "HTTP/1.1 503 "), (4_000, "HTTP/1.1 200 ")] {
        let whole = format!("{head}content-length: {length}\r\n\r\n{}", "x".repeat(length));
        let mut answer = String::new();
        // A rejection may arrive before the body is sent completely.
        let _ = send(&service, &whole).await.unwrap().read_to_string(&mut answer).await;
        assert!(answer.starts_with(status), "{length}: {answer}");
    }
    drop(connections);
}

#[tokio::test]
async fn a_body_with_a_too_large_content_length_is_rejected_unread() {
    let service = start_faulty().await;
    let head = "POST /api/echo HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100000000000\r\n\r\n";
    let mut stream = send(&service, head).await.unwrap();
    let mut status = [0; 12];
    timeout(Duration::from_secs(5), stream.read_exact(&mut status)).await.expect("an immediate response").unwrap();
    assert_eq!(&status, b"HTTP/1.1 413");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_client_that_never_reads_is_disconnected() {
    let service = start_faulty_with_short_timeouts(10).await;
    // More responses than fit into the buffers between client and service.
    let mut client = TcpStream::connect(address(&service)).await.unwrap();
    let requests = "GET /openapi.json HTTP/1.1\r\nhost: localhost\r\n\r\n".repeat(100);
    while timeout(Duration::from_secs(1), client.write_all(requests.as_bytes())).await.is_ok_and(|sent| sent.is_ok()) {}
    let (client_port, service_port) = (client.local_addr().unwrap().port(), address(&service).port());
    // The connection of the service in /proc/net/tcp, see proc_net(5): ports are hexadecimal, state 01 is established.
    let is_open = || {
        let connections = std::fs::read_to_string("/proc/net/tcp").unwrap();
        let (local, remote) = (format!(":{service_port:04X}"), format!(":{client_port:04X}"));
        connections.lines().any(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            fields[1].ends_with(&local) && fields[2].ends_with(&remote) && fields[3] == "01"
        })
    };
    assert!(is_open());
    eventually_within(CLOSE_TIMEOUT, "the connection is closed", || async { (!is_open()).then_some(()) }).await;
}

#[tokio::test]
async fn requests_above_the_concurrency_limit_are_rejected() {
    let service = start_faulty().await;
    let connections = send_many(&service, "GET /api/hang HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    eventually_within(Duration::from_secs(8), "one more request is rejected", || async {
        let started = Instant::now();
        let answer = timeout(Duration::from_secs(1), service.http.get("/api/hang")).await.ok()?;
        assert_eq!((answer.status.as_u16(), answer.code(), answer.header("retry-after")), (503, "unavailable", "2"));
        assert!(started.elapsed() < Duration::from_secs(1));
        Some(())
    })
    .await;
    assert_eq!(service.health.get("/livez").await.status, 200);
    let metrics = service.health.get("/metrics").await.body.as_str().unwrap().to_owned();
    let shed = metrics.lines().find_map(|line| line.strip_prefix(r#"off_http_shed_total{service="faulty"} "#));
    assert!(shed.is_some_and(|count| count != "0"), "no request was shed: {shed:?}");
    drop(connections);
}
