//! Server-sent events and WebSockets.

use crate::{Gate, SOON};
use off_events::UserId;
use off_kit::{
    Clock,
    auth::{Scope, Subject},
};
use off_testkit::{eventually_within, tokens};
use reqwest::{Method, Response};
use std::{sync::atomic::Ordering, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, timeout},
};

async fn listen(gate: &Gate) -> Response {
    gate.http().request(Method::GET, "/api/orders/events").send().await.unwrap()
}

async fn wait_for_streams(gate: &Gate, count: usize) {
    let open = &gate.upstream.seen.open_streams;
    eventually_within(SOON, "streams of the service", || async {
        (open.load(Ordering::SeqCst) == count).then_some(())
    })
    .await;
}

/// A connection that became a WebSocket.
async fn upgrade(gate: &Gate, protocol: &str) -> (TcpStream, String) {
    let mut stream = TcpStream::connect(gate.address()).await.unwrap();
    let token = tokens::test_client();
    let request = format!(
        "GET /api/orders/socket HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\nconnection: Upgrade\r\n\
         upgrade: {protocol}\r\nhttp2-settings: AAMAAABkAAQAAP__\r\nsec-websocket-key: eA==\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(timeout(SOON, stream.read_u8()).await.unwrap().unwrap());
    }
    (stream, String::from_utf8(head).unwrap())
}

#[tokio::test]
async fn events_arrive_as_they_are_sent_and_end_when_the_client_leaves() {
    let gate = Gate::start().await;
    let answer = listen(&gate).await;
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    let mut events = answer;
    for number in 0..3 {
        let event = timeout(SOON, events.chunk()).await.unwrap().unwrap().unwrap();
        assert_eq!(event, format!("data: {number}\n\n"));
    }
    assert_eq!(gate.upstream.seen.open_streams.load(Ordering::SeqCst), 1);
    drop(events);
    wait_for_streams(&gate, 0).await;
    gate.end().await;
}

#[tokio::test]
async fn a_websocket_passes_in_both_directions() {
    let gate = Gate::start().await;
    let (mut socket, head) = upgrade(&gate, "websocket").await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert!(head.contains("upgrade: websocket\r\n") && head.contains("sec-websocket-accept: x\r\n"), "{head}");
    for text in ["hello", "world"] {
        socket.write_all(text.as_bytes()).await.unwrap();
        let mut echo = vec![0; text.len()];
        timeout(SOON, socket.read_exact(&mut echo)).await.unwrap().unwrap();
        assert_eq!(echo, text.as_bytes());
    }
    gate.end().await;
}

#[tokio::test]
async fn no_other_protocol_passes() {
    let gate = Gate::start().await;
    let (_, head) = upgrade(&gate, "h2c").await;
    assert!(head.starts_with("HTTP/1.1 426 "), "{head}");
    let headers = gate.upstream.last_headers();
    assert!(!headers.contains_key("upgrade") && !headers.contains_key("http2-settings"), "{headers:?}");
    gate.end().await;
}

#[tokio::test]
async fn streams_end_when_the_gateway_stops() {
    let gate = Gate::start().await;
    let mut events = listen(&gate).await;
    let (mut socket, _) = upgrade(&gate, "websocket").await;
    timeout(SOON, events.chunk()).await.unwrap().unwrap().unwrap();
    let started = Instant::now();
    let reading = tokio::spawn(async move {
        let mut count = 0;
        // The end is an ordinary one: the client sees no broken answer.
        while events.chunk().await.unwrap().is_some() {
            count += 1;
        }
        count
    });
    gate.gateway.stop().await;
    assert!(started.elapsed() < Duration::from_secs(6), "{:?}", started.elapsed());
    reading.await.unwrap();
    assert_eq!(socket.read(&mut [0; 8]).await.unwrap_or_default(), 0);
    gate.nats.end().await;
}

#[tokio::test]
async fn a_stream_ends_with_the_token_of_its_reader() {
    let gate = Gate::start().await;
    let mut claims = tokens::claims(&Subject::Person(UserId(1)), &[Scope::Person]);
    claims.exp -= 599;
    let http = gate.http().with_token(tokens::sign(&claims));
    let mut events = http.request(Method::GET, "/api/orders/events").send().await.unwrap();
    timeout(SOON, async { while events.chunk().await.unwrap().is_some() {} }).await.expect("the stream ends");
    gate.end().await;
}

#[tokio::test]
async fn the_number_of_streams_is_limited_and_each_is_counted() {
    let gate = Gate::start_with(Clock::real(1.0), |config| config.max_streams_per_caller = 2).await;
    let (first, _second) = (listen(&gate).await, listen(&gate).await);
    assert_eq!(listen(&gate).await.status(), 503);
    let metrics = gate.gateway.health.get("/metrics").await.body.to_string();
    assert!(metrics.contains("off_gateway_streams 2"), "{metrics}");
    drop(first);
    eventually_within(SOON, "a place is free", || async { (listen(&gate).await.status() == 200).then_some(()) }).await;
    gate.end().await;
}
