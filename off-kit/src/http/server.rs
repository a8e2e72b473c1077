//! Serving a router with everything around it.

use super::{
    connections::{self, Limits},
    health,
    hosts::KnownHosts,
    observe::{Durations, observe},
    problem::{self, Problem},
    room::{Door, Room, answer_within_limits},
};
use crate::{Addresses, Kit, Service, tasks::panic_message};
use anyhow::Context;
use axum::{
    Router,
    http::StatusCode,
    middleware,
    response::{IntoResponse, Response},
};
use metrics::gauge;
use std::{any::Any, net::SocketAddr, sync::PoisonError};
use tokio::net::TcpListener;
use tower_http::catch_panic::CatchPanicLayer;
use tracing::{error, info};
use utoipa::openapi::{
    Content, InfoBuilder, LicenseBuilder, OpenApi, OpenApiBuilder, PathItem, Ref, RefOr, ResponseBuilder,
    ServerBuilder, path::Operation,
};
use utoipa_axum::router::OpenApiRouter;
use utoipa_swagger_ui::SwaggerUi;

/// The OpenAPI document of a service with these routes.
pub fn document<S: Service, App: Clone + Send + Sync + 'static>(routes: OpenApiRouter<App>) -> OpenApi {
    let (_, mut health) = health::routes().split_for_parts();
    let (_, mut document) = routes.split_for_parts();
    let server = ServerBuilder::new()
        .url(format!("http://localhost:{}", S::HEALTH_PORT))
        .description(Some("the health port, HEALTH_PORT; it is not published"))
        .build();
    document.paths.paths.values_mut().for_each(add_unknown_host);
    health.paths.paths.values_mut().for_each(|path| path.servers = Some(vec![server.clone()]));
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

fn operations(path: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [&mut path.get, &mut path.put, &mut path.post, &mut path.patch, &mut path.delete].into_iter().flatten()
}

/// Every operation may be asked of the wrong host.
fn add_unknown_host(path: &mut PathItem) {
    for operation in operations(path) {
        let response = ResponseBuilder::new()
            .description("the Host header names another server, see HTTP_HOSTS")
            .content(problem::CONTENT_TYPE, Content::new(Some(Ref::from_schema_name("Problem"))));
        operation.responses.responses.insert("421".to_owned(), RefOr::T(response.build()));
    }
}

/// Documents every [`Problem`] as what it is sent as; by itself it would be taken for any other JSON.
fn say_what_problems_are(path: &mut PathItem) {
    for response in operations(path).flat_map(|operation| operation.responses.responses.values_mut()) {
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

/// Serves `routes` and their documentation on the API's port, and health and metrics on the health port, until the service
/// stops; returns once both listen, with the addresses in `kit`.
pub async fn serve<S: Service>(kit: &Kit, routes: OpenApiRouter) -> anyhow::Result<()> {
    let document = document::<S, ()>(routes.clone());
    let (api, _) = routes.split_for_parts();
    let room = Room::new();
    let app: Router = api
        .layer(middleware::from_fn_with_state(room.clone(), answer_within_limits))
        .merge(SwaggerUi::new("/docs").url("/openapi.json", document))
        .fallback(|| async { Problem::not_found("there is no such address here; /docs lists those there are") })
        .method_not_allowed_fallback(|| async {
            let detail = "this address takes other methods; /docs lists them";
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail)
        })
        .layer(CatchPanicLayer::custom(answer_panic))
        .layer(middleware::from_fn_with_state(Durations::new(kit.name), observe));
    let door = Door::new(kit.name, app, room).await?;
    let host = kit.http.http_service_host;
    let given = std::mem::take(&mut *kit.listeners.lock().unwrap_or_else(PoisonError::into_inner));
    let api = listen(given.api, SocketAddr::new(host, kit.http.http_service_port), "HTTP_SERVICE_PORT").await?;
    let health = listen(given.health, SocketAddr::new(host, kit.http.health_port), "HEALTH_PORT").await?;
    let addresses = Addresses { api: api.local_addr()?, health: health.local_addr()? };
    // Set once: a service serves once.
    let _ = kit.addresses.set(addresses);
    health::serve(kit, health, addresses.health);
    let guarded = KnownHosts::new(kit.http.hosts.clone(), door);
    let address = addresses.api;
    info!("{} answers on http://{address}, documented at http://{address}/docs", kit.name);
    let (tasks, out_of_time) = (kit.tasks.clone(), kit.tasks.clone());
    let open = gauge!("off_http_connections", "service" => kit.name);
    kit.tasks.spawn("http", async move {
        tokio::select! {
            served = connections::serve(api, guarded, Limits::of_api(), open, &tasks) => served,
            // Someone who sends half a request does not hold up the end.
            () = out_of_time.out_of_time() => Ok(()),
        }
    });
    Ok(())
}

/// Takes a socket that listens already, or listens at `address`; an error names the setting that chooses another port.
pub(super) async fn listen(
    given: Option<std::net::TcpListener>,
    address: SocketAddr,
    setting: &str,
) -> anyhow::Result<TcpListener> {
    match given {
        Some(listener) => Ok(TcpListener::from_std(listener)?),
        None => TcpListener::bind(address).await.with_context(|| {
            format!("cannot listen on {address}: is another program there? {setting} chooses another port")
        }),
    }
}

pub(super) fn answer_panic(panic: Box<dyn Any + Send>) -> Response {
    error!("a handler panicked: {}", panic_message(panic.as_ref()));
    Problem::internal().into_response()
}
