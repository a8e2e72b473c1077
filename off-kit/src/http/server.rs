//! Serves the API of a service with its middleware, its OpenAPI document and its health port.

use super::{
    codes::{CommonCode, ProblemCode},
    connections::{self, Limits, bind},
    edge::Edge,
    health,
    hosts::KnownHosts,
    load_shedding::{ConcurrencyLimit, LoadShedder, enforce_limits},
    observe::{Durations, observe},
    problem::{self, Problem, answer_panic},
    rules::{self, Guard, Rule, Rules, enforce_rules, method_not_allowed},
};
use crate::{Addresses, Kit, auth::Verifier};
use axum::{Json, Router, middleware, response::Response, routing::get};
use hyper::{Request, body::Incoming, service::Service};
use metrics::gauge;
use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, PoisonError},
};
use tower_http::catch_panic::CatchPanicLayer;
use tracing::info;
use utoipa::openapi::{
    Content, InfoBuilder, LicenseBuilder, OpenApi, OpenApiBuilder, PathItem, Ref, RefOr, ResponseBuilder, Schema,
    ServerBuilder, path::Operation,
};
use utoipa_axum::router::OpenApiRouter;

/// What the OpenAPI document of a service says besides its routes.
#[derive(Debug, Clone, Copy)]
pub struct Description {
    /// The name of the service.
    pub name: &'static str,
    /// A one-line description of the service.
    pub about: &'static str,
    /// The default port of its health and metrics.
    pub health_port: u16,
    /// The problem codes of its own, beside [`CommonCode`].
    pub problem_codes: &'static [&'static str],
}

/// The OpenAPI document of a service with these routes, and those of its health port.
pub fn document<App: Clone + Send + Sync + 'static>(service: Description, routes: OpenApiRouter<App>) -> OpenApi {
    let (_, mut health) = health::routes().split_for_parts();
    let (_, mut document) = routes.split_for_parts();
    let server = ServerBuilder::new()
        .url(format!("http://localhost:{}", service.health_port))
        .description(Some("the health port (HEALTH_PORT), not published"))
        .build();
    document.paths.paths.values_mut().for_each(add_unknown_host);
    document.paths.paths.values_mut().for_each(add_token_responses);
    document.components.get_or_insert_default().add_security_scheme(rules::SCHEME, rules::scheme());
    health.paths.paths.values_mut().for_each(|path| path.servers = Some(vec![server.clone()]));
    document.merge(health);
    let info = InfoBuilder::new()
        .title(format!("off: {}", service.name))
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(service.about))
        .license(Some(LicenseBuilder::new().name("MIT OR Apache-2.0").build()))
        .build();
    document.paths.paths.values_mut().for_each(set_problem_type);
    list_problem_codes(&mut document, service.problem_codes);
    OpenApiBuilder::from(document).info(info).build()
}

fn operations(path: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [&mut path.get, &mut path.put, &mut path.post, &mut path.patch, &mut path.delete].into_iter().flatten()
}

/// Adds the 421 response for an unknown host, which each operation may return.
fn add_unknown_host(path: &mut PathItem) {
    for operation in operations(path) {
        let response = ResponseBuilder::new()
            .description("the Host header contains a name that is not allowed, see HTTP_HOSTS")
            .content(problem::CONTENT_TYPE, Content::new(Some(Ref::from_schema_name("Problem"))));
        operation.responses.responses.insert("421".to_owned(), RefOr::T(response.build()));
    }
}

/// Adds the 401 and 403 responses of operations that need a token.
fn add_token_responses(path: &mut PathItem) {
    for operation in operations(path) {
        if !Rule::of(operation).is_ok_and(Rule::needs_token) {
            continue;
        }
        for (status, description) in [("401", "no valid access token"), ("403", "the token does not allow this")] {
            let response = ResponseBuilder::new()
                .description(description)
                .content(problem::CONTENT_TYPE, Content::new(Some(Ref::from_schema_name("Problem"))));
            operation.responses.responses.insert(status.to_owned(), RefOr::T(response.build()));
        }
    }
}

/// Lists the values that `code` of a problem may have.
fn list_problem_codes(document: &mut OpenApi, own: &[&'static str]) {
    let schemas = document.components.as_mut().map(|components| &mut components.schemas);
    let Some(RefOr::T(Schema::Object(problem))) = schemas.and_then(|schemas| schemas.get_mut("Problem")) else {
        return;
    };
    let Some(RefOr::T(Schema::Object(code))) = problem.properties.get_mut("code") else { return };
    let codes = CommonCode::ALL.map(CommonCode::as_str).into_iter().chain(own.iter().copied());
    code.enum_values = Some(codes.map(Into::into).collect());
}

/// Sets the media type of each [`Problem`] response; utoipa documents them as `application/json`.
fn set_problem_type(path: &mut PathItem) {
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

/// Serves `routes` and their document on the API port, and health and metrics on the health port, until the service
/// stops. Each route is open to those whom its `security` names. Returns when both ports listen and stores their
/// addresses in `kit`.
///
/// # Errors
/// A route has no `security`, or a port cannot be bound.
pub async fn serve(kit: &Kit, verifier: &Verifier, service: Description, routes: OpenApiRouter) -> anyhow::Result<()> {
    let rules = Arc::new(Rules::of(&routes.clone().split_for_parts().1)?);
    let document = Json(document::<()>(service, routes.clone()));
    let (api, _) = routes.split_for_parts();
    let limit = ConcurrencyLimit::new(kit.clock);
    let app: Router = api
        .layer(middleware::from_fn_with_state(limit.clone(), enforce_limits))
        .layer(middleware::from_fn_with_state(Guard { rules, verifier: verifier.clone() }, enforce_rules))
        .route("/openapi.json", get(|| async move { document }))
        .fallback(|| async { Problem::not_found("there is no such path; /docs of the gateway lists all paths") })
        .method_not_allowed_fallback(|| async { method_not_allowed() })
        .layer(CatchPanicLayer::custom(answer_panic))
        .layer(middleware::from_fn_with_state(Durations::new(kit.name), observe));
    let app = LoadShedder::new(kit.name, app, limit).await?;
    listen(kit, app, Port::Service).await
}

/// How the API port serves its connections.
#[derive(Debug, Clone)]
pub enum Port {
    /// The port of a service: HTTP/1 without upgrades.
    Service,
    /// A port that the public may reach, see [`Edge`].
    Edge(Edge),
}

/// Serves `app` on the API port, and health and metrics on the health port, until the service stops. Returns when both
/// ports listen and stores their addresses in `kit`. Requests for unknown hosts do not reach `app`.
///
/// # Errors
/// A port cannot be bound.
pub async fn listen<App>(kit: &Kit, app: App, port: Port) -> anyhow::Result<()>
where
    App: Service<Request<Incoming>, Response = Response, Error = Infallible> + Clone + Send + Sync + 'static,
    App::Future: Send + 'static,
{
    let host = kit.http.http_service_host;
    let given = std::mem::take(&mut *kit.listeners.lock().unwrap_or_else(PoisonError::into_inner));
    let api = bind(given.api, SocketAddr::new(host, kit.http.http_service_port), "HTTP_SERVICE_PORT").await?;
    let health = bind(given.health, SocketAddr::new(host, kit.http.health_port), "HEALTH_PORT").await?;
    let addresses = Addresses { api: api.local_addr()?, health: health.local_addr()? };
    // Cannot fail: a service calls this function once.
    let _ = kit.addresses.set(addresses);
    health::serve(kit, health, addresses.health);
    let guarded = KnownHosts::new(kit.http.hosts.clone(), app);
    let (address, scheme, documented_at) = (addresses.api, port.scheme(), port.documented_at());
    info!("{} listens on {scheme}://{address}, documented at {scheme}://{address}{documented_at}", kit.name);
    let (tasks, grace_period_elapsed) = (kit.tasks.clone(), kit.tasks.clone());
    let limits = Limits::of_api(kit.clock, port.other_files());
    let open = gauge!("off_http_connections", "service" => kit.name);
    kit.tasks.spawn("http", async move {
        let serving = async {
            match port {
                Port::Service => connections::serve(api, guarded, limits, open, &tasks).await,
                Port::Edge(edge) => edge.serve(api, guarded, limits, open, &tasks).await,
            }
        };
        tokio::select! {
            served = serving => served,
            // A client that sends half a request must not delay the shutdown.
            () = grace_period_elapsed.grace_period_elapsed() => Ok(()),
        }
    });
    Ok(())
}

impl Port {
    fn scheme(&self) -> &'static str {
        match self {
            Self::Edge(Edge { tls: Some(_), .. }) => "https",
            Self::Service | Self::Edge(_) => "http",
        }
    }

    fn documented_at(&self) -> &'static str {
        match self {
            Self::Service => "/openapi.json",
            Self::Edge(_) => "/docs",
        }
    }

    fn other_files(&self) -> u64 {
        match self {
            Self::Service => 0,
            Self::Edge(edge) => edge.other_files,
        }
    }
}
