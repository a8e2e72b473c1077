//! The health port: whether the process lives, whether it is ready, and its metrics. It is a port of its own because it is
//! not for the public: the API's port can be published as it is.

use super::{
    connections::{self, Limits},
    hosts::KnownHosts,
    problem::Problem,
    server::{answer_panic, listen},
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

/// A few probes and scrapers; whoever says nothing is let go soon, so that they find a place.
const LIMITS: Limits = Limits { connections: 256, head_within: Duration::from_secs(10) };

/// Serves the health port of a service until it stops.
pub(super) fn serve(kit: &Kit, listener: TcpListener, address: SocketAddr) {
    let (routes, _) = routes().split_for_parts();
    let app = with_metrics(routes.with_state(kit.clone()))
        .fallback(|| async { Problem::not_found("this port has /livez, /readyz and /metrics; the API is on another") })
        .layer(CatchPanicLayer::custom(answer_panic));
    let guarded = KnownHosts::new(kit.http.hosts.clone(), TowerToHyperService::new(app));
    info!("{} tells of its health on http://{address}/readyz and /metrics", kit.name);
    let (tasks, out_of_time) = (kit.tasks.clone(), kit.tasks.clone());
    kit.tasks.spawn("health port", async move {
        tokio::select! {
            served = connections::serve(listener, guarded, LIMITS, Gauge::noop(), &tasks) => served,
            () = out_of_time.out_of_time() => Ok(()),
        }
    });
}

/// Shows the metrics of a program that serves nothing else, for as long as the process lives. An error names the setting that chose
/// the address.
pub async fn show_metrics(address: SocketAddr, setting: &str) -> anyhow::Result<()> {
    let listener = listen(None, address, setting).await?;
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, with_metrics(Router::new())).await {
            warn!("metrics are shown no longer: {error}");
        }
    });
    Ok(())
}

fn with_metrics(app: Router) -> Router {
    // What Prometheus asks for: https://prometheus.io/docs/instrumenting/exposition_formats
    let text = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    app.route("/metrics", get(|| async { ([(header::CONTENT_TYPE, text)], telemetry::render_metrics()) }))
}

pub(super) fn routes() -> OpenApiRouter<Kit> {
    OpenApiRouter::new().routes(routes!(find_livez)).routes(routes!(find_readyz))
}

/// Whether the process is alive; asks nothing of anyone else.
#[utoipa::path(get, path = "/livez", tag = "health", responses((status = 200, description = "alive", body = String)))]
async fn find_livez() -> &'static str {
    "ok"
}

/// Whether the service has what it needs and wants requests.
#[utoipa::path(get, path = "/readyz", tag = "health", responses(
    (status = 200, description = "ready", body = Readiness),
    (status = 503, description = "not ready, and why", body = Readiness)))]
async fn find_readyz(State(kit): State<Kit>) -> (StatusCode, Json<Readiness>) {
    let readiness = kit.needs.readiness(kit.name, kit.tasks.is_stopping()).await;
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(readiness))
}
