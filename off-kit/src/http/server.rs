//! Serving a router with everything around it.

use super::{
    connections,
    observe::observe,
    problem::{self, Problem},
    room::{Door, Room, answer_while_there_is_room},
};
use crate::{Kit, Service, health::Readiness, tasks::panic_message, telemetry};
use anyhow::Context;
use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, Request, State},
    http::{StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use std::{any::Any, net::SocketAddr, sync::PoisonError, time::Duration};
use tokio::net::TcpListener;
use tower_http::catch_panic::CatchPanicLayer;
use tracing::{error, info, warn};
use utoipa::openapi::{Content, InfoBuilder, LicenseBuilder, OpenApi, OpenApiBuilder, PathItem, RefOr};
use utoipa_axum::{router::OpenApiRouter, routes};
use utoipa_swagger_ui::SwaggerUi;

/// The largest body a service reads, in bytes.
pub(super) const BODY_LIMIT: usize = 64 * 1024;

/// How long a request may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// The OpenAPI document of a service with these routes.
pub fn document<S: Service, App: Clone + Send + Sync + 'static>(routes: OpenApiRouter<App>) -> OpenApi {
    let (_, health) = health_routes().split_for_parts();
    let (_, mut document) = routes.split_for_parts();
    document.merge(health);
    let info = InfoBuilder::new()
        .title(format!("off: {}", S::NAME))
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(S::ABOUT))
        .license(Some(LicenseBuilder::new().name("MIT OR Apache-2.0").build()))
        .build();
    document.paths.paths.values_mut().for_each(say_what_problems_are);
    OpenApiBuilder::from(document).info(info).build()
}

/// Documents every [`Problem`] as what it is sent as; by itself it would be taken for any other JSON.
fn say_what_problems_are(path: &mut PathItem) {
    let operations = [&mut path.get, &mut path.put, &mut path.post, &mut path.patch, &mut path.delete];
    for response in operations.into_iter().flatten().flat_map(|operation| operation.responses.responses.values_mut()) {
        let RefOr::T(response) = response else { continue };
        let is_problem = response.content.values().any(|content| match content {
            RefOr::T(Content { schema: Some(RefOr::Ref(reference)), .. }) => {
                reference.ref_location.ends_with("/Problem")
            }
            _ => false,
        });
        if is_problem {
            response.content = std::mem::take(&mut response.content)
                .into_values()
                .map(|content| (problem::CONTENT_TYPE.to_owned(), content))
                .collect();
        }
    }
}

/// Serves `routes` beside health, metrics and documentation until the service stops; returns once it listens, with the
/// address in `kit`.
pub async fn serve<S: Service>(kit: &Kit, routes: OpenApiRouter) -> anyhow::Result<()> {
    let document = document::<S, ()>(routes.clone());
    let (api, _) = routes.split_for_parts();
    let (health, _) = health_routes().split_for_parts();
    let room = Room::new();
    let app: Router = api
        .layer(middleware::from_fn_with_state(room.clone(), answer_while_there_is_room))
        .merge(health.with_state(kit.clone()))
        .route("/metrics", get(|| async { telemetry::render_metrics() }))
        .merge(SwaggerUi::new("/docs").url("/openapi.json", document))
        .fallback(|| async { Problem::not_found("there is no such address here; /docs lists those there are") })
        .method_not_allowed_fallback(|| async {
            let detail = "this address takes other methods; /docs lists them";
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail)
        })
        .layer(CatchPanicLayer::custom(answer_panic))
        .layer(middleware::from_fn(answer_in_time))
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .layer(middleware::from_fn(refuse_what_is_too_large))
        .layer(middleware::from_fn_with_state(kit.name, observe));
    let door = Door::new(kit.name, app, room).await?;
    let address = SocketAddr::new(kit.http.http_service_host, kit.http.http_service_port);
    let given = kit.listener.lock().unwrap_or_else(PoisonError::into_inner).take();
    let listener = match given {
        Some(listener) => TcpListener::from_std(listener)?,
        None => TcpListener::bind(address).await.with_context(|| {
            format!("cannot listen on {address}: is another program there? HTTP_SERVICE_PORT chooses another port")
        })?,
    };
    let address = listener.local_addr()?;
    // Set once: a service serves once.
    let _ = kit.address.set(address);
    info!("{} answers on http://{address}, documented at http://{address}/docs", kit.name);
    let (tasks, giving_up) = (kit.tasks.clone(), kit.tasks.clone());
    let service = kit.name;
    kit.tasks.spawn("http", async move {
        tokio::select! {
            served = connections::serve(service, listener, door, &tasks) => served,
            // Someone who sends half a request does not hold up the end.
            () = giving_up.out_of_time() => Ok(()),
        }
    });
    Ok(())
}

/// Shows the metrics of a program that serves nothing else, for as long as the process lives.
pub async fn show_metrics(address: SocketAddr) -> anyhow::Result<()> {
    let listener = TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?;
    let app = Router::new().route("/metrics", get(|| async { telemetry::render_metrics() }));
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, app).await {
            warn!("metrics are shown no longer: {error}");
        }
    });
    Ok(())
}

fn health_routes() -> OpenApiRouter<Kit> {
    OpenApiRouter::new().routes(routes!(find_livez)).routes(routes!(find_readyz)).routes(routes!(find_health))
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
    readiness(&kit).await
}

/// The same as `/readyz`, beside the API.
#[utoipa::path(get, path = "/api/health", tag = "health", responses(
    (status = 200, description = "ready", body = Readiness),
    (status = 503, description = "not ready, and why", body = Readiness)))]
async fn find_health(State(kit): State<Kit>) -> (StatusCode, Json<Readiness>) {
    readiness(&kit).await
}

async fn readiness(kit: &Kit) -> (StatusCode, Json<Readiness>) {
    let readiness = kit.needs.readiness(kit.name, kit.tasks.is_stopping()).await;
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(readiness))
}

/// What says that it is too large is refused before anything of it arrives.
async fn refuse_what_is_too_large(request: Request, next: Next) -> Response {
    let announced = request.headers().get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    if announced.is_some_and(|length: u64| length > BODY_LIMIT as u64) {
        return Problem::too_large().into_response();
    }
    next.run(request).await
}

async fn answer_in_time(request: Request, next: Next) -> Response {
    tokio::time::timeout(ANSWER_WITHIN, next.run(request)).await.unwrap_or_else(|_| {
        warn!("a request was not answered within {} s", ANSWER_WITHIN.as_secs());
        Problem::unavailable("the answer took too long; try again").into_response()
    })
}

fn answer_panic(panic: Box<dyn Any + Send>) -> Response {
    error!("a handler panicked: {}", panic_message(panic.as_ref()));
    Problem::internal().into_response()
}
