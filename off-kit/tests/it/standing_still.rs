//! Clients that stand still: they are let go, and the others notice nothing.

#![expect(clippy::unwrap_used, reason = "what goes wrong here fails the test that asked")]

use super::clumsy;
use futures::{StreamExt, TryStreamExt, stream};
use off_testkit::{Running, eventually_within};
use std::{io, net::SocketAddr, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, timeout},
};

/// A little longer than the service waits.
const LET_GO_WITHIN: Duration = Duration::from_secs(90);

/// More requests than are answered at once.
const CROWD: usize = 1024;

fn address(service: &Running) -> SocketAddr {
    service.http.base().trim_start_matches("http://").parse().unwrap()
}

async fn send(service: &Running, text: &str) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(address(service)).await?;
    stream.write_all(text.as_bytes()).await?;
    Ok(stream)
}

/// Sends this over many connections; not over all at the same moment, as connections that nobody takes in yet are few.
async fn send_by_a_crowd(service: &Running, text: &str) -> Vec<TcpStream> {
    stream::iter(0..CROWD).map(|_| send(service, text)).buffer_unordered(100).try_collect().await.unwrap()
}

#[tokio::test]
async fn who_never_ends_a_head_is_let_go() {
    let service = clumsy().await;
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
    timeout(LET_GO_WITHIN, ended).await.expect("the connection ends").unwrap();
}

#[tokio::test]
async fn who_never_ends_a_body_is_answered_for_in_time() {
    let service = clumsy().await;
    let head = "POST /api/echo HTTP/1.1\r\nhost: localhost\r\ncontent-length: 10\r\n\r\nhalf";
    let mut slow = send(&service, head).await.unwrap();
    let mut answer = String::new();
    timeout(LET_GO_WITHIN, slow.read_to_string(&mut answer)).await.expect("an answer and the end").unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
}

#[tokio::test]
async fn who_sends_slowly_takes_nobodys_place() {
    let service = clumsy().await;
    let half = "POST /api/echo HTTP/1.1\r\nhost: localhost\r\ncontent-length: 10\r\n\r\nhalf";
    let crowd = send_by_a_crowd(&service, half).await;
    let whole = "POST /api/echo HTTP/1.1\r\nhost: localhost\r\ncontent-length: 4\r\nconnection: close\r\n\r\nfull";
    let mut answer = String::new();
    send(&service, whole).await.unwrap().read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    drop(crowd);
}

#[tokio::test]
async fn large_bodies_are_held_up_to_a_limit_and_small_ones_always_read() {
    let service = clumsy().await;
    let head = "POST /api/echo HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n";
    let half = format!("{head}content-length: 60000\r\n\r\n{}", "x".repeat(5000));
    let crowd = send_by_a_crowd(&service, &half).await;
    for (length, status) in [(60_000, "HTTP/1.1 503 "), (4_000, "HTTP/1.1 200 ")] {
        let whole = format!("{head}content-length: {length}\r\n\r\n{}", "x".repeat(length));
        let mut answer = String::new();
        // Whoever is refused may be so before all was sent.
        let _ = send(&service, &whole).await.unwrap().read_to_string(&mut answer).await;
        assert!(answer.starts_with(status), "{length}: {answer}");
    }
    drop(crowd);
}

#[tokio::test]
async fn a_body_that_is_announced_too_large_is_refused_unread() {
    let service = clumsy().await;
    let head = "POST /api/echo HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100000000000\r\n\r\n";
    let mut stream = send(&service, head).await.unwrap();
    let mut status = [0; 12];
    timeout(Duration::from_secs(5), stream.read_exact(&mut status)).await.expect("an answer at once").unwrap();
    assert_eq!(&status, b"HTTP/1.1 413");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn who_never_reads_is_let_go() {
    let service = clumsy().await;
    // More than the buffers between the two hold.
    let mut greedy = TcpStream::connect(address(&service)).await.unwrap();
    let question = "GET /openapi.json HTTP/1.1\r\nhost: localhost\r\n\r\n".repeat(100);
    while timeout(Duration::from_secs(1), greedy.write_all(question.as_bytes())).await.is_ok_and(|sent| sent.is_ok()) {}
    let (here, there) = (greedy.local_addr().unwrap().port(), address(&service).port());
    // The service's end of it: /proc/net/tcp, proc_net(5), with ports in hexadecimal; 01 is an open connection.
    let is_open = || {
        let connections = std::fs::read_to_string("/proc/net/tcp").unwrap();
        let (local, remote) = (format!(":{there:04X}"), format!(":{here:04X}"));
        connections.lines().any(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            fields[1].ends_with(&local) && fields[2].ends_with(&remote) && fields[3] == "01"
        })
    };
    assert!(is_open());
    eventually_within(LET_GO_WITHIN, "the connection is closed", || async { (!is_open()).then_some(()) }).await;
}

#[tokio::test]
async fn more_than_can_be_answered_are_told_to_come_back() {
    let service = clumsy().await;
    let crowd = send_by_a_crowd(&service, "GET /api/hang HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    eventually_within(Duration::from_secs(8), "one more is told to come back", || async {
        let asked = Instant::now();
        let answer = timeout(Duration::from_secs(1), service.http.get("/api/hang")).await.ok()?;
        assert_eq!((answer.status.as_u16(), answer.code(), answer.header("retry-after")), (503, "unavailable", "2"));
        assert!(asked.elapsed() < Duration::from_secs(1));
        Some(())
    })
    .await;
    assert_eq!(service.health.get("/livez").await.status, 200);
    let metrics = service.health.get("/metrics").await.body.as_str().unwrap().to_owned();
    let turned_away =
        metrics.lines().find_map(|line| line.strip_prefix(r#"off_http_turned_away_total{service="clumsy"} "#));
    assert!(turned_away.is_some_and(|count| count != "0"), "turned away before all else: {turned_away:?}");
    drop(crowd);
}
