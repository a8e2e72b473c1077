//! The HTTP edge that every service has, around a service that behaves badly.

mod full_disk;
mod pooler;
mod standing_still;
mod vanished_postgres;

use off_kit::{Clock, Kit, Service, http};
use off_testkit::Running;
use reqwest::Method;
use tokio::sync::Notify;
use utoipa::openapi::OpenApi;
use utoipa_axum::{router::OpenApiRouter, routes};

/// A service that panics, dawdles and never gets ready.
struct Clumsy;

#[utoipa::path(get, path = "/api/panic")]
#[expect(clippy::panic, reason = "it is what the route is for")]
async fn panic() -> String {
    panic!("a secret of the inside")
}

#[utoipa::path(get, path = "/api/hang")]
async fn hang() -> String {
    std::future::pending().await
}

/// A request to `/api/dawdle` is in hand.
static ARRIVED: Notify = Notify::const_new();
/// It may be finished.
static FINISH: Notify = Notify::const_new();

#[utoipa::path(get, path = "/api/dawdle")]
async fn dawdle() -> String {
    ARRIVED.notify_one();
    FINISH.notified().await;
    "done".to_owned()
}

#[utoipa::path(post, path = "/api/echo")]
async fn echo(body: String) -> String {
    body
}

fn clumsy_routes() -> OpenApiRouter {
    OpenApiRouter::new().routes(routes!(panic)).routes(routes!(hang)).routes(routes!(dawdle)).routes(routes!(echo))
}

impl Service for Clumsy {
    const NAME: &'static str = "clumsy";
    const ABOUT: &'static str = "Behaves badly.";
    const PORT: u16 = 0;
    type Config = http::Config;

    fn openapi() -> OpenApi {
        http::document::<Self, ()>(clumsy_routes())
    }

    async fn start(_: http::Config, kit: Kit) -> anyhow::Result<()> {
        kit.needs.add("luck", || async { Err("none today".to_owned()) });
        http::serve::<Self>(&kit, clumsy_routes()).await
    }
}

async fn clumsy() -> Running {
    let unused = http::Config::on_loopback(0, 0);
    Running::start::<Clumsy>(unused, Clock::real(1.0)).await
}

#[tokio::test]
async fn a_panic_is_a_problem_of_one_request_and_tells_nothing() {
    let service = clumsy().await;
    let answer = service.http.get("/api/panic").await;
    assert_eq!((answer.status.as_u16(), answer.code()), (500, "internal"));
    assert!(!answer.body.to_string().contains("secret"), "{answer:?}");
    assert_eq!(service.health.get("/livez").await.status, 200);
    service.stop().await;
}

#[tokio::test]
async fn a_request_belongs_to_the_trace_it_came_with() {
    let service = clumsy().await;
    let traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let request = service.http.request(Method::GET, "/api/nothing").header("traceparent", traceparent);
    let problem: serde_json::Value = request.send().await.unwrap().json().await.unwrap();
    assert_eq!(problem["trace_id"], "4bf92f3577b34da6a3ce929d0e0e4736");
}

#[tokio::test]
async fn who_hangs_is_answered_for_in_time() {
    let service = clumsy().await;
    let answer = service.http.get("/api/hang").await;
    assert_eq!((answer.status.as_u16(), answer.code()), (503, "unavailable"));
}

#[tokio::test]
async fn a_request_in_hand_is_finished_before_the_end() {
    let service = clumsy().await;
    let http = service.http.clone();
    let request = tokio::spawn(async move { http.get("/api/dawdle").await });
    ARRIVED.notified().await;
    // Asked to stop first, and only then is the request let go on.
    tokio::join!(service.stop(), async { FINISH.notify_one() });
    let answer = request.await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.body.as_str()), (200, Some("done")));
}

#[tokio::test]
async fn what_is_missing_is_said_where_readiness_is_asked() {
    let service = clumsy().await;
    let answer = service.health.get("/readyz").await;
    assert_eq!((answer.status.as_u16(), &answer.body["needs"]["luck"]), (503, &"none today".into()));
}

#[tokio::test]
async fn the_port_of_the_api_tells_nothing_of_health_and_the_health_port_serves_no_api() {
    let service = clumsy().await;
    for path in ["/livez", "/readyz", "/metrics", "/api/health"] {
        assert_eq!(service.http.get(path).await.status, 404, "{path}");
    }
    for path in ["/api/panic", "/docs", "/openapi.json"] {
        assert_eq!(service.health.get(path).await.status, 404, "{path}");
    }
    assert_eq!(service.health.get("/metrics").await.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
}

#[tokio::test]
async fn under_a_name_of_somebody_else_nothing_is_answered() {
    let service = clumsy().await;
    for (http, path) in [(&service.http, "/openapi.json"), (&service.health, "/livez")] {
        let ask = |host| http.request(Method::GET, path).header("host", host).send();
        assert_eq!(ask("localhost:8082").await.unwrap().status(), 200);
        let refused = ask("page.example").await.unwrap();
        assert_eq!(refused.status(), 421);
        let problem: serde_json::Value = refused.json().await.unwrap();
        assert_eq!(problem["code"], "unknown_host");
    }
    service.stop().await;
}
