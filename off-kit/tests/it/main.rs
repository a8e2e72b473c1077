//! The HTTP server of services, tested with a faulty service.

mod full_disk;
mod pooler;
mod requests;
mod slow_clients;
mod vanished_postgres;

use off_kit::{Bus, Clock, Kit, Service, auth::Verifier, bus, http};
use off_testkit::Running;
use reqwest::Method;
use tokio::sync::Notify;
use utoipa::openapi::OpenApi;
use utoipa_axum::{router::OpenApiRouter, routes};

/// A service whose handlers panic, hang or wait, and which never becomes ready.
struct Faulty;

#[utoipa::path(get, path = "/api/panic", security(()))]
#[expect(clippy::panic, reason = "the purpose of the route")]
async fn panic() -> String {
    panic!("an internal secret")
}

#[utoipa::path(get, path = "/api/hang", security(()))]
async fn hang() -> String {
    std::future::pending().await
}

/// Notified when a request to `/api/wait` has arrived.
static ARRIVED: Notify = Notify::const_new();
/// Lets the request to `/api/wait` finish.
static FINISH: Notify = Notify::const_new();

#[utoipa::path(get, path = "/api/wait", security(()))]
async fn wait() -> String {
    ARRIVED.notify_one();
    FINISH.notified().await;
    "done".to_owned()
}

#[utoipa::path(post, path = "/api/echo", security(()))]
async fn echo(body: String) -> String {
    body
}

fn faulty_routes() -> OpenApiRouter {
    OpenApiRouter::new().routes(routes!(panic)).routes(routes!(hang)).routes(routes!(wait)).routes(routes!(echo))
}

impl Service for Faulty {
    const NAME: &'static str = "faulty";
    const ABOUT: &'static str = "A service that fails.";
    const PORT: u16 = 0;
    type Config = http::Config;

    fn openapi() -> OpenApi {
        http::document::<()>(Self::description(), faulty_routes())
    }

    async fn start(_: http::Config, kit: Kit) -> anyhow::Result<()> {
        kit.readiness_checks.add("example", || async { Err("unavailable".to_owned()) });
        let bus = Bus::connect(&bus::Config::at("nats://127.0.0.1:1"), Self::NAME).await?;
        let verifier = Verifier::start(&kit, &bus)?;
        http::serve(&kit, &verifier, Self::description(), faulty_routes()).await
    }
}

async fn start_faulty() -> Running {
    start_faulty_with(Clock::real(1.0)).await
}

/// A faulty service whose timeouts are `divisor` times shorter.
async fn start_faulty_with_short_timeouts(divisor: u32) -> Running {
    start_faulty_with(Clock::real(1.0).with_short_timeouts(divisor)).await
}

async fn start_faulty_with(clock: Clock) -> Running {
    let unused = http::Config::on_loopback(0, 0);
    Running::start::<Faulty>(unused, clock).await
}

#[tokio::test]
async fn a_panic_fails_one_request_and_exposes_no_details() {
    let service = start_faulty().await;
    let answer = service.http.get("/api/panic").await;
    assert_eq!((answer.status.as_u16(), answer.code()), (500, "internal"));
    assert!(!answer.body.to_string().contains("secret"), "{answer:?}");
    assert_eq!(service.health.get("/livez").await.status, 200);
    service.stop().await;
}

#[tokio::test]
async fn a_request_continues_the_trace_of_its_traceparent() {
    let service = start_faulty().await;
    let traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let request = service.http.request(Method::GET, "/api/nothing").header("traceparent", traceparent);
    let problem: serde_json::Value = request.send().await.unwrap().json().await.unwrap();
    assert_eq!(problem["trace_id"], "4bf92f3577b34da6a3ce929d0e0e4736");
}

#[tokio::test]
async fn a_hanging_handler_is_answered_with_503_in_time() {
    let service = start_faulty_with_short_timeouts(20).await;
    let answer = service.http.get("/api/hang").await;
    assert_eq!((answer.status.as_u16(), answer.code()), (503, "unavailable"));
}

#[tokio::test]
async fn a_running_request_is_finished_before_the_service_stops() {
    let service = start_faulty().await;
    let http = service.http.clone();
    let request = tokio::spawn(async move { http.get("/api/wait").await });
    ARRIVED.notified().await;
    // The service is stopped first; only then may the request finish.
    tokio::join!(service.stop(), async { FINISH.notify_one() });
    let answer = request.await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.body.as_str()), (200, Some("done")));
}

#[tokio::test]
async fn readyz_returns_the_reason_of_a_failed_check() {
    let service = start_faulty().await;
    let answer = service.health.get("/readyz").await;
    assert_eq!((answer.status.as_u16(), &answer.body["checks"]["example"]), (503, &"unavailable".into()));
}

#[tokio::test]
async fn the_api_port_serves_no_health_and_the_health_port_serves_no_api() {
    let service = start_faulty().await;
    for path in ["/livez", "/readyz", "/metrics", "/api/health"] {
        assert_eq!(service.http.get(path).await.status, 404, "{path}");
    }
    for path in ["/api/panic", "/docs", "/openapi.json"] {
        assert_eq!(service.health.get(path).await.status, 404, "{path}");
    }
    assert_eq!(service.health.get("/metrics").await.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
}

#[tokio::test]
async fn a_request_with_an_unknown_host_name_is_rejected() {
    let service = start_faulty().await;
    for (http, path) in [(&service.http, "/openapi.json"), (&service.health, "/livez")] {
        let get = |host| http.request(Method::GET, path).header("host", host).send();
        assert_eq!(get("localhost:8082").await.unwrap().status(), 200);
        let rejected = get("page.example").await.unwrap();
        assert_eq!(rejected.status(), 421);
        let problem: serde_json::Value = rejected.json().await.unwrap();
        assert_eq!(problem["code"], "unknown_host");
    }
    service.stop().await;
}
