//! Many connections, and clients that are slow.

use crate::{Gate, SOON};
use off_kit::Clock;
use off_testkit::eventually_within;
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

#[tokio::test]
async fn a_client_that_never_finishes_the_head_is_disconnected() {
    let gate = Gate::start_with(Clock::real(1.0).with_short_timeouts(50), |_| {}).await;
    let mut slow = TcpStream::connect(gate.address()).await.unwrap();
    slow.write_all(b"GET /api/orders HTTP/1.1\r\nhost:").await.unwrap();
    timeout(SOON, slow.read_to_end(&mut Vec::new())).await.expect("the connection ends").unwrap();
    gate.end().await;
}

/// A request on a connection that stays open.
async fn request(stream: &mut TcpStream) {
    stream.write_all(b"GET /client/health/ HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\"}]}") {
        answer.push(timeout(SOON, stream.read_u8()).await.unwrap().unwrap());
    }
    assert!(answer.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&answer));
}

/// Longer than a connection keeps its buffers and shorter than its idle timeout, 75 s / 50.
async fn idle() {
    tokio::time::sleep(Duration::from_millis(900)).await;
}

#[tokio::test]
async fn an_idle_connection_goes_on_where_it_was() {
    let gate = Gate::start_with(Clock::real(1.0).with_short_timeouts(50), |_| {}).await;
    let mut stream = TcpStream::connect(gate.address()).await.unwrap();
    for _ in 0..3 {
        request(&mut stream).await;
        idle().await;
    }
    // A request may arrive in pieces, with the first behind the last request.
    stream.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\nGET / HT").await.unwrap();
    idle().await;
    stream.write_all(b"TP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answers = String::new();
    timeout(SOON, stream.read_to_string(&mut answers)).await.unwrap().unwrap();
    assert_eq!(answers.matches("HTTP/1.1 200 ").count(), 2, "{answers}");
    gate.end().await;
}

#[tokio::test]
async fn a_head_that_never_ends_does_not_keep_a_connection_open_after_a_request() {
    let gate = Gate::start_with(Clock::real(1.0).with_short_timeouts(50), |_| {}).await;
    let mut stream = TcpStream::connect(gate.address()).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\nGET /").await.unwrap();
    let ended = async { while stream.read(&mut [0; 1024]).await.is_ok_and(|read| read > 0) {} };
    timeout(SOON, ended).await.expect("the connection ends");

    let mut silent = TcpStream::connect(gate.address()).await.unwrap();
    request(&mut silent).await;
    timeout(SOON, silent.read(&mut [0])).await.expect("an idle connection ends").unwrap();
    gate.end().await;
}

#[tokio::test]
async fn idle_connections_are_counted_and_do_not_delay_the_stop() {
    let gate = Gate::start().await;
    let mut idle = Vec::new();
    for _ in 0..50 {
        idle.push(TcpStream::connect(gate.address()).await.unwrap());
    }
    eventually_within(SOON, "the connections are counted", || async {
        let metrics = gate.gateway.health.get("/metrics").await.body.as_str().unwrap().to_owned();
        let open = metrics.lines().find_map(|line| line.strip_prefix("off_http_connections{service=\"gateway\"} "))?;
        (open.parse::<f64>().unwrap() >= 50.0).then_some(())
    })
    .await;
    timeout(SOON, gate.gateway.stop()).await.expect("the gateway stops");
    gate.nats.end().await;
}

#[tokio::test]
async fn one_address_cannot_take_all_connections() {
    let gate = Gate::start_with(Clock::real(1.0), |config| config.max_connections_per_address = 2).await;
    let mut first = TcpStream::connect(gate.address()).await.unwrap();
    request(&mut first).await;
    let mut second = TcpStream::connect(gate.address()).await.unwrap();
    request(&mut second).await;
    let mut third = TcpStream::connect(gate.address()).await.unwrap();
    let closed = timeout(SOON, third.read_to_end(&mut Vec::new())).await.expect("the connection ends");
    assert!(closed.is_err() || closed.is_ok_and(|length| length == 0));
    drop(first);
    eventually_within(SOON, "there is a place again", || async {
        let mut stream = TcpStream::connect(gate.address()).await.ok()?;
        stream.write_all(b"GET /client/health/ HTTP/1.1\r\nhost: localhost\r\n\r\n").await.ok()?;
        (stream.read_u8().await.ok()? == b'H').then_some(())
    })
    .await;
    request(&mut second).await;
    gate.end().await;
}
