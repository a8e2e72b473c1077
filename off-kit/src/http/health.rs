//! The health port: liveness, readiness and metrics. It is a separate port, so that the API port can be published
//! without them.

use super::{
    connections::{self, Limits, bind},
    hosts::KnownHosts,
    problem::{Problem, answer_panic},
};
use crate::{Kit, health::Readiness, telemetry};
use axum::{
    Json, Router,
    extract::State,
    http::{HeaderValue, StatusCode, header},
    routing::get,
};
use hyper_util::service::TowerToHyperService;
use metrics::Gauge;
use std::{net::SocketAddr, time::Duration};
use tokio::net::TcpListener;
use tower_http::catch_panic::CatchPanicLayer;
use tracing::{info, warn};
use utoipa_axum::{router::OpenApiRouter, routes};

/// Enough for probes and scrapers. Idle connections are closed soon, so that they do not use up the limit.
const LIMITS: Limits =
    Limits { connections: 256, head_within: Duration::from_secs(10), read_within: connections::READ_TIMEOUT };

/// Serves the health port of a service until it stops.
pub(super) fn serve(kit: &Kit, listener: TcpListener, address: SocketAddr) {
    let (routes, _) = routes().split_for_parts();
    let app = with_metrics(routes.with_state(kit.clone()))
        .fallback(|| async { Problem::not_found("this port has only /livez, /readyz and /metrics, not the API") })
        .layer(CatchPanicLayer::custom(answer_panic));
    let guarded = KnownHosts::new(kit.http.hosts.clone(), TowerToHyperService::new(app));
    info!("{} serves health checks on http://{address}/readyz and /metrics", kit.name);
    let (tasks, grace_period_elapsed) = (kit.tasks.clone(), kit.tasks.clone());
    kit.tasks.spawn("health port", async move {
        tokio::select! {
            served = connections::serve(listener, guarded, LIMITS, Gauge::noop(), &tasks) => served,
            () = grace_period_elapsed.grace_period_elapsed() => Ok(()),
        }
    });
}

/// Serves `/metrics` for a program without another HTTP server, until the process ends.
///
/// # Errors
/// The address cannot be bound; the error names `setting`, which contains the address.
pub async fn show_metrics(address: SocketAddr, setting: &str) -> anyhow::Result<()> {
    let listener = bind(None, address, setting).await?;
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, with_metrics(Router::new())).await {
            warn!("the metrics server failed: {error}");
        }
    });
    Ok(())
}

fn with_metrics(app: Router) -> Router {
    // The content type of the Prometheus text format: https://prometheus.io/docs/instrumenting/exposition_formats
    let text = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    app.route("/metrics", get(|| async { ([(header::CONTENT_TYPE, text)], telemetry::render_metrics()) }))
}

pub(super) fn routes() -> OpenApiRouter<Kit> {
    OpenApiRouter::new().routes(routes!(find_livez)).routes(routes!(find_readyz))
}

/// Liveness: the process runs. Checks no dependencies.
#[utoipa::path(get, path = "/livez", tag = "health", security(()), responses((status = 200, description = "alive", body = String)))]
async fn find_livez() -> &'static str {
    "ok"
}

/// Readiness: all dependencies are available and the service accepts requests.
#[utoipa::path(get, path = "/readyz", tag = "health", security(()), responses(
    (status = 200, description = "ready", body = Readiness),
    (status = 503, description = "not ready, and why", body = Readiness)))]
async fn find_readyz(State(kit): State<Kit>) -> (StatusCode, Json<Readiness>) {
    let readiness = kit.readiness_checks.readiness(kit.name, kit.tasks.is_stopping()).await;
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(readiness))
}
