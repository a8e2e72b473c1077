//! What services and clients receive from each other.

use crate::{Gate, config, start_gateway, upstream::Upstream};
use off_kit::Clock;
use off_testkit::{TestNats, tokens};
use reqwest::{Body, Method};
use serde_json::json;
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};

#[tokio::test]
async fn a_service_receives_nothing_that_the_client_made_up_about_itself() {
    let gate = Gate::start().await;
    let request = gate
        .http()
        .request(Method::POST, "/api/orders?limit=1")
        .header("x-forwarded-for", "6.6.6.6")
        .header("x-forwarded-host", "evil.example")
        .header("x-real-ip", "6.6.6.6")
        .header("forwarded", "for=6.6.6.6")
        .header("x-off-user", "1")
        .header("x-http-method-override", "DELETE")
        .header("connection", "x-hop")
        .header("x-hop", "1")
        .header("te", "trailers")
        .header("cookie", "__Host-off=secret")
        .header("idempotency-key", "k")
        .json(&json!({"ssd_id": 1}));
    let answer = request.send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let headers = gate.upstream.last_headers();
    let get = |name: &str| headers.get(name).map_or("", |value| value.to_str().unwrap());
    assert_eq!(get("x-forwarded-for"), "127.0.0.1");
    assert_eq!(get("x-forwarded-proto"), "http");
    assert_eq!(get("x-forwarded-host"), gate.address().to_string());
    assert_eq!((get("idempotency-key"), get("content-type"), get("content-length")), ("k", "application/json", "12"));
    assert_eq!(get("x-request-id"), answer.headers()["x-request-id"]);
    assert_eq!(get("traceparent").len(), 55);
    assert!(get("authorization").starts_with("Bearer "));
    for absent in ["x-real-ip", "forwarded", "x-off-user", "x-http-method-override", "x-hop", "te", "cookie"] {
        assert_eq!(get(absent), "", "{absent}");
    }
    let body: serde_json::Value = answer.json().await.unwrap();
    assert_eq!(body, json!({"target": "POST /api/orders?limit=1", "bytes": 12}));
    gate.end().await;
}

#[tokio::test]
async fn ids_of_requests_and_traces_are_kept() {
    let gate = Gate::start().await;
    let traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let request = gate.http().request(Method::GET, "/api/orders").header("x-request-id", "run-7");
    let answer = request.header("traceparent", traceparent).send().await.unwrap();
    assert_eq!(answer.headers()["x-request-id"], "run-7");
    let headers = gate.upstream.last_headers();
    assert!(headers["x-request-id"] == "run-7" && headers["traceparent"] == traceparent, "{headers:?}");
    // The problems of the gateway belong to the trace, too.
    let request = gate.http().request(Method::GET, "/api/unknown").header("traceparent", traceparent);
    let problem: serde_json::Value = request.send().await.unwrap().json().await.unwrap();
    assert_eq!(problem["trace_id"], "4bf92f3577b34da6a3ce929d0e0e4736");
    gate.end().await;
}

#[tokio::test]
async fn an_answer_has_security_headers_and_none_of_one_hop() {
    let gate = Gate::start().await;
    let answer = gate.http().get("/api/orders/strange").await;
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("x-frame-options", "DENY"),
        ("content-security-policy", "default-src 'none'; frame-ancestors 'none'"),
        ("cache-control", "private"),
        ("strict-transport-security", ""),
        ("x-internal", ""),
        ("proxy-authenticate", ""),
        ("access-control-allow-origin", ""),
    ] {
        assert_eq!(answer.header(name), value, "{name}");
    }
    assert_ne!(answer.header("x-request-id"), "another");
    assert_eq!(gate.http().get("/api/orders").await.header("cache-control"), "no-store");
    gate.end().await;
}

#[tokio::test]
async fn only_listed_origins_may_use_the_api() {
    let shop = "https://shop.example.org";
    let gate = Gate::start_with(Clock::real(1.0), |config| config.cors_origins = vec![shop.parse().unwrap()]).await;
    let preflight = |origin| {
        let request = gate.http().anonymous().request(Method::OPTIONS, "/api/orders").header("origin", origin);
        request.header("access-control-request-method", "POST").send()
    };
    let allowed = preflight(shop).await.unwrap();
    assert_eq!(
        (allowed.status().as_u16(), allowed.headers()["access-control-allow-origin"].to_str().unwrap()),
        (204, shop)
    );
    assert!(allowed.headers()["access-control-allow-headers"].to_str().unwrap().contains("authorization"));
    for origin in ["https://evil.example", "null", "https://shop.example.org.evil.example", "http://shop.example.org"] {
        let refused = preflight(origin).await.unwrap();
        assert_eq!(refused.status(), 403, "{origin}");
        assert!(!refused.headers().contains_key("access-control-allow-origin"));
    }
    let get = |origin| gate.http().request(Method::GET, "/api/orders/strange").header("origin", origin).send();
    let answer = get(shop).await.unwrap();
    assert_eq!(answer.headers()["access-control-allow-origin"], shop);
    assert_eq!(answer.headers()["vary"], "origin");
    assert!(!answer.headers().contains_key("access-control-allow-credentials"));
    let other = get("https://evil.example").await.unwrap();
    assert!(!other.headers().contains_key("access-control-allow-origin"));
    assert_eq!(other.headers()["vary"], "origin");
    gate.end().await;
}

#[tokio::test]
async fn a_body_above_the_limit_is_refused() {
    let gate = Gate::start().await;
    let post = |body: Body| gate.http().request(Method::POST, "/api/orders").body(body).send();
    for size in [0, 100, 9 * 1024, 64 * 1024] {
        let answer: serde_json::Value = post(vec![b'x'; size].into()).await.unwrap().json().await.unwrap();
        assert_eq!(answer["bytes"], size);
    }
    let head =
        format!("POST /api/orders HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\n", tokens::test_client());
    let declared = gate.send_raw(&format!("{head}content-length: 65537\r\n\r\n")).await;
    assert!(declared.starts_with("HTTP/1.1 413 "), "{declared}");
    let chunk = format!("8000\r\n{}\r\n", "x".repeat(0x8000));
    let streamed = gate.send_raw(&format!("{head}transfer-encoding: chunked\r\n\r\n{}", chunk.repeat(3))).await;
    assert!(streamed.starts_with("HTTP/1.1 413 "), "{streamed}");
    gate.end().await;
}

#[tokio::test]
async fn a_service_that_is_away_or_late_is_a_problem_of_its_own() {
    let clock = Clock::real(1.0).with_short_timeouts(20);
    let gate = Gate::start_with(clock, |_| {}).await;
    let late = gate.http().get("/api/orders/slow").await;
    assert_eq!((late.status.as_u16(), late.code()), (504, "upstream_late"));
    gate.upstream.kill();
    let away = off_testkit::eventually("the service is away", || async {
        let answer = gate.http().get("/api/orders").await;
        (answer.status == 503).then_some(answer)
    })
    .await;
    assert_eq!((away.code(), away.header("retry-after")), ("unavailable", "2"));
    gate.end().await;
}

/// A service that answers the first request on each connection, and closes the connection instead of answering the
/// second. Returns its URL and the number of requests that it received.
async fn start_forgetful() -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let received = Arc::<AtomicUsize>::default();
    let requests = received.clone();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(answer_once(stream, requests.clone()));
        }
    });
    (url, received)
}

async fn answer_once(stream: TcpStream, requests: Arc<AtomicUsize>) {
    let mut stream = BufReader::new(stream);
    for number in 0..2 {
        let mut length = 0;
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await.unwrap_or_default() == 0 {
                return;
            }
            if let Some(value) = line.strip_prefix("content-length: ") {
                length = value.trim().parse().unwrap();
            }
            if line == "\r\n" {
                break;
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.unwrap();
        requests.fetch_add(1, Ordering::SeqCst);
        if number == 0 {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_request_whose_connection_broke_is_repeated_only_if_that_is_harmless() {
    let (nats, (url, received)) = (TestNats::new().await, start_forgetful().await);
    let unused = Upstream::start().await;
    let mut config = config(&nats, &unused.url);
    // The gateway itself asks the orders service, too.
    config.services.users_url = url.parse().unwrap();
    let gateway = start_gateway(config, Clock::real(1.0)).await;
    let post = |key: Option<&'static str>| {
        let request = gateway.http.request(Method::POST, "/api/devices").json(&json!({"ssd_id": 1}));
        let request = match key {
            Some(key) => request.header("idempotency-key", key),
            None => request,
        };
        async move { request.send().await.unwrap().status().as_u16() }
    };
    let count = || received.swap(0, Ordering::SeqCst);
    // Fills the pool with one connection, which breaks under the next request.
    assert_eq!((post(None).await, count()), (200, 1));
    assert_eq!((post(Some("a")).await, count()), (200, 2), "repeated on a new connection");
    assert_eq!((gateway.http.get("/api/devices").await.status.as_u16(), count()), (200, 2), "reading is harmless");
    assert_eq!((post(None).await, count()), (502, 1), "it may have had an effect");
    assert_eq!((post(None).await, count()), (200, 1));
    gateway.stop().await;
    nats.end().await;
}

#[tokio::test]
async fn a_client_that_sends_its_body_too_slowly_is_refused() {
    let gate = Gate::start_with(Clock::real(1.0).with_short_timeouts(20), |_| {}).await;
    let token = tokens::test_client();
    let half = format!(
        "POST /api/orders HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\ncontent-length: 10\r\n\r\nhalf"
    );
    let answer = tokio::time::timeout(Duration::from_secs(8), gate.send_raw(&half)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    gate.end().await;
}

#[tokio::test]
async fn a_service_sees_a_request_only_when_its_body_is_complete() {
    let gate = Gate::start_with(Clock::real(1.0).with_short_timeouts(50), |_| {}).await;
    let token = tokens::test_client();
    for framing in ["transfer-encoding: chunked\r\n\r\n1\r\n \r\n", "content-length: 60000\r\n\r\n         "] {
        let head = format!("POST /api/orders HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n");
        let answer = gate.send_raw(&format!("{head}connection: close\r\n{framing}")).await;
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    }
    let garbage = format!(
        "POST /api/orders HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\nconnection: close\r\n\
         transfer-encoding: chunked\r\n\r\nzz\r\n"
    );
    let answer = gate.send_raw(&garbage).await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(!gate.upstream.paths().iter().any(|path| path.starts_with("/api/orders")), "{:?}", gate.upstream.paths());
    gate.end().await;
}
