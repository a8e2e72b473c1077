//! A server that plays the services: it answers every request with what it received.

use axum::{
    Json, Router,
    body::{Body, Bytes, to_bytes},
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use futures::{Stream, StreamExt, stream};
use hyper_util::rt::TokioIo;
use off_kit::auth::{Scope, Subject};
use off_testkit::tokens;
use serde_json::{Value, json};
use std::{
    convert::Infallible,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    task::JoinHandle,
};
use url::Url;

/// The password that the token endpoint accepts.
pub(crate) const KEY: &str = "offd_0123456789abcdef0123456789abcdef_secret";

/// The session key that the token endpoint accepts.
pub(crate) const SESSION_KEY: &str =
    "offk_0123456789abcdef0123456789abcdef_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// The server.
pub(crate) struct Upstream {
    pub(crate) url: Url,
    pub(crate) seen: Arc<Seen>,
    server: JoinHandle<()>,
}

/// What the server received.
#[derive(Default)]
pub(crate) struct Seen {
    requests: Mutex<Vec<(String, HeaderMap)>>,
    /// Streams that a client is reading.
    pub(crate) open_streams: AtomicUsize,
    /// Tokens that were issued.
    pub(crate) tokens: AtomicUsize,
    /// When it is set, `/readyz` fails.
    pub(crate) not_ready: AtomicUsize,
}

impl Upstream {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let seen = Arc::<Seen>::default();
        let app = Router::new()
            .route("/api/orders/slow", get(async || std::future::pending::<()>().await))
            .route("/api/orders/events", get(send_events))
            .route("/api/orders/socket", get(echo_socket))
            .route("/api/orders/strange", get(answer_strangely))
            .route("/oauth/token", post(issue_token))
            .route("/openapi.json", get(async || Json(json!({"paths": {"/api/x": {}, "/readyz": {"servers": []}}}))))
            .route("/readyz", get(is_ready))
            // The gateway asks these on its own, for the state of the system.
            .route("/api/orders/counts", get(async || StatusCode::SERVICE_UNAVAILABLE))
            .route("/metrics", get(async || ""))
            .route("/api/products", get(async || StatusCode::SERVICE_UNAVAILABLE))
            .fallback(echo)
            .with_state(seen.clone());
        let server = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { url, seen, server }
    }

    /// Stops the server; its connections end.
    pub(crate) fn kill(&self) {
        self.server.abort();
    }

    /// The paths of the requests so far.
    pub(crate) fn paths(&self) -> Vec<String> {
        self.seen.requests.lock().unwrap().iter().map(|(path, _)| path.clone()).collect()
    }

    /// The headers of the last request.
    pub(crate) fn last_headers(&self) -> HeaderMap {
        self.seen.requests.lock().unwrap().last().unwrap().1.clone()
    }
}

async fn echo(State(seen): State<Arc<Seen>>, request: Request) -> Response {
    if request.method() == "GET" && request.uri().path().starts_with("/api/users/1") {
        seen.requests.lock().unwrap().push((format!("GET {}", request.uri()), request.headers().clone()));
        return Json(json!({"ssd_ids": [7]})).into_response();
    }
    let (parts, body) = request.into_parts();
    let target = format!("{} {}", parts.method, parts.uri);
    seen.requests.lock().unwrap().push((target.clone(), parts.headers));
    let body = to_bytes(body, usize::MAX).await.unwrap_or_default();
    Json(json!({"target": target, "bytes": body.len()})).into_response()
}

/// Counts a stream while it is read.
struct Reading(Arc<Seen>);

impl Drop for Reading {
    fn drop(&mut self) {
        self.0.open_streams.fetch_sub(1, Ordering::SeqCst);
    }
}

fn events(seen: Arc<Seen>) -> impl Stream<Item = Result<Bytes, Infallible>> {
    seen.open_streams.fetch_add(1, Ordering::SeqCst);
    let reading = Reading(seen);
    stream::iter(0..).then(move |number| {
        let _ = &reading;
        async move {
            if number > 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Ok(Bytes::from(format!("data: {number}\n\n")))
        }
    })
}

async fn send_events(State(seen): State<Arc<Seen>>) -> Response {
    ([(header::CONTENT_TYPE, "text/event-stream")], Body::from_stream(events(seen))).into_response()
}

/// Answers the upgrade, and then sends back all bytes.
async fn echo_socket(State(seen): State<Arc<Seen>>, mut request: Request) -> Response {
    seen.requests.lock().unwrap().push(("socket".to_owned(), request.headers().clone()));
    if !request.headers().contains_key(header::UPGRADE) {
        return StatusCode::UPGRADE_REQUIRED.into_response();
    }
    let upgraded = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let mut stream = TokioIo::new(upgraded.await.unwrap());
        let mut buffer = [0; 1024];
        while let Ok(read @ 1..) = stream.read(&mut buffer).await {
            stream.write_all(&buffer[..read]).await.unwrap();
        }
    });
    let headers =
        [(header::CONNECTION, "upgrade"), (header::UPGRADE, "websocket"), (header::SEC_WEBSOCKET_ACCEPT, "x")];
    (StatusCode::SWITCHING_PROTOCOLS, headers).into_response()
}

/// Headers that must not reach the client.
async fn answer_strangely() -> Response {
    let mut response = Json(Value::Null).into_response();
    for (name, value) in [
        ("connection", "x-internal"),
        ("x-internal", "1"),
        ("proxy-authenticate", "Basic"),
        ("access-control-allow-origin", "*"),
        ("x-request-id", "another"),
        ("cache-control", "private"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

async fn issue_token(State(seen): State<Arc<Seen>>, headers: HeaderMap, body: String) -> Response {
    let basic = |text: String| format!("Basic {}", BASE64_STANDARD.encode(text));
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let (subject, scope) = if given == basic(format!("ssd-7:{KEY}")) {
        (Subject::Device(off_events::SsdId(7)), Scope::Device)
    } else if given == basic(format!("session:{SESSION_KEY}")) {
        (Subject::Person(off_events::UserId(17)), Scope::Person)
    } else {
        return (StatusCode::UNAUTHORIZED, Json(json!({"error": "invalid_client"}))).into_response();
    };
    let scope_of_page = if body.ends_with("&scope=person") { "&scope=person" } else { "" };
    assert_eq!(body, format!("grant_type=client_credentials{scope_of_page}"));
    seen.tokens.fetch_add(1, Ordering::SeqCst);
    seen.requests.lock().unwrap().push(("token".to_owned(), headers));
    let token = tokens::token(&subject, &[scope]);
    Json(json!({"access_token": token, "token_type": "Bearer", "expires_in": 600, "scope": scope.as_str()}))
        .into_response()
}

async fn is_ready(State(seen): State<Arc<Seen>>) -> StatusCode {
    if seen.not_ready.load(Ordering::SeqCst) == 0 { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}
