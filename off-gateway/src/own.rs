//! What the gateway answers itself.

use crate::{
    Gateway,
    board::{Board, ServiceState},
    docs::{self, Documents},
    live::{self, LiveApi},
    page::Page,
};
use axum::{
    Json, Router,
    extract::{FromRef, Path, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use bytes::Bytes;
use off_kit::{
    Kit, Service,
    http::{CommonCode, Problem},
};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

/// The state of the handlers.
#[derive(Debug, Clone)]
pub(crate) struct Own {
    kit: Kit,
    board: Board,
    documents: Documents,
    /// The gateway's own document.
    document: Bytes,
    page: Page,
}

/// The state of everything behind the gateway.
#[derive(Debug, Serialize, ToSchema)]
struct Health {
    status: Overall,
    /// The gateway and the services, each with its last known state.
    services: Vec<ServiceHealth>,
}

/// Whether everything works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Overall {
    /// All is well.
    Ok,
    /// Something is away or not ready.
    Degraded,
}

/// The state of one service.
#[derive(Debug, Serialize, ToSchema)]
struct ServiceHealth {
    #[schema(example = "orders")]
    name: &'static str,
    status: ServiceState,
}

impl FromRef<Own> for LiveApi {
    fn from_ref(own: &Own) -> Self {
        LiveApi { live: own.page.live.clone(), services: own.page.services.clone() }
    }
}

impl Own {
    pub(crate) fn new(kit: &Kit, board: Board, documents: Documents, page: Page) -> anyhow::Result<Self> {
        Ok(Self { kit: kit.clone(), board, documents, document: docs::own(&Gateway::openapi())?, page })
    }

    /// All routes.
    pub(crate) fn router(self) -> Router {
        let (api, _) = routes().with_state(self.clone()).split_for_parts();
        let documents = Router::new()
            .route("/docs/openapi/{file}", get(find_document))
            .route("/openapi.json", get(|own: State<Self>| async move { json(own.document.clone()) }))
            .route("/client/health", get(find_client_health))
            .with_state(self.clone());
        api.merge(documents)
            .merge(self.documents.page())
            .merge(self.page.router())
            .fallback(|| async { not_found() })
            .method_not_allowed_fallback(|| async {
                Problem::new(CommonCode::MethodNotAllowed, "this path does not support the method")
            })
    }

    /// The states, and whether everything that is needed works.
    async fn health(&self) -> (Health, bool) {
        let ready = self.kit.readiness_checks.readiness(self.kit.name, self.kit.tasks.is_stopping()).await.ready;
        let own = if ready { ServiceState::Ok } else { ServiceState::NotReady };
        let entries = self.board.entries();
        let states = entries.iter().map(|entry| (entry.upstream.name(), entry.state()));
        let services: Vec<_> = [(self.kit.name, own)]
            .into_iter()
            .chain(states)
            .map(|(name, status)| ServiceHealth { name, status })
            .collect();
        let is_well = services.iter().all(|service| service.status == ServiceState::Ok);
        let works = ready && entries.iter().all(|entry| !entry.is_needed() || entry.state() == ServiceState::Ok);
        (Health { status: if is_well { Overall::Ok } else { Overall::Degraded }, services }, works)
    }
}

/// 404 for a path that no route has.
pub(crate) fn not_found() -> Problem {
    Problem::not_found("there is no such path; /docs lists all paths")
}

/// The routes that the document of the gateway has.
pub(crate) fn routes() -> OpenApiRouter<Own> {
    OpenApiRouter::new()
        .routes(routes!(find_health))
        .routes(routes!(find_client_health))
        .routes(routes!(live::http::follow_system))
        .routes(routes!(live::http::follow_order))
        .routes(routes!(live::http::follow_me))
}

/// Whether everything that is needed works, for monitoring. The states are a few seconds old.
#[utoipa::path(get, path = "/health", tag = "gateway", security(()), responses(
    (status = 200, description = "it works", body = Health),
    (status = 429, description = "too many requests of this caller, see Retry-After", body = Problem),
    (status = 503, description = "the gateway or a needed service is away or not ready", body = Health)))]
async fn find_health(State(own): State<Own>) -> (StatusCode, Json<Health>) {
    let (health, works) = own.health().await;
    (if works { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, Json(health))
}

/// The state of everything, for clients that show it to people. The states are a few seconds old.
#[utoipa::path(get, path = "/client/health/", tag = "gateway", security(()), responses(
    (status = 200, description = "the states", body = Health),
    (status = 429, description = "too many requests of this caller, see Retry-After", body = Problem)))]
async fn find_client_health(State(own): State<Own>) -> Json<Health> {
    Json(own.health().await.0)
}

async fn find_document(State(own): State<Own>, Path(file): Path<String>) -> Result<Response, Problem> {
    let name = file.strip_suffix(".json").ok_or_else(not_found)?;
    if name == own.kit.name {
        return Ok(json(own.document));
    }
    own.documents.find(name).await.map(json)
}

fn json(body: Bytes) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}
