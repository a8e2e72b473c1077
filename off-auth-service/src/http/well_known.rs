//! What verifiers and clients read: the public keys (RFC 7517) and where to obtain tokens (RFC 8414).

use crate::App;
use axum::{
    Json,
    extract::State,
    http::{HeaderValue, header},
    response::IntoResponse,
};
use off_kit::auth::{JwkSet, Scope};
use serde::Serialize;
use utoipa::ToSchema;

/// A new key is published an hour before it signs, so an answer may be kept for a while.
const CACHED: (header::HeaderName, HeaderValue) =
    (header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=300"));

/// A JSON Web Key Set, RFC 7517.
#[derive(Serialize, ToSchema)]
struct PublishedKeys {
    /// JSON Web Keys, each on the curve P-256.
    keys: Vec<serde_json::Value>,
}

/// Metadata of the authorization server, RFC 8414.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Metadata {
    #[schema(example = "http://localhost:8080")]
    issuer: String,
    token_endpoint: String,
    revocation_endpoint: String,
    jwks_uri: String,
    grant_types_supported: [&'static str; 1],
    token_endpoint_auth_methods_supported: [&'static str; 1],
    revocation_endpoint_auth_methods_supported: [&'static str; 2],
    /// Empty: there is no authorization endpoint.
    response_types_supported: [&'static str; 0],
    scopes_supported: [&'static str; 4],
}

/// The public keys that verify access tokens.
#[utoipa::path(get, path = "/.well-known/jwks.json", tag = "oauth", security(()),
    responses((status = 200, description = "the published keys", body = PublishedKeys)))]
pub(super) async fn show_published_keys(State(app): State<App>) -> impl IntoResponse {
    ([CACHED], Json(JwkSet { keys: app.keys.published() }))
}

/// Where programs obtain and revoke tokens.
#[utoipa::path(get, path = "/.well-known/oauth-authorization-server", tag = "oauth", security(()),
    responses((status = 200, description = "the metadata", body = Metadata)))]
pub(super) async fn show_metadata(State(app): State<App>) -> impl IntoResponse {
    let address = |path: &str| format!("{}{path}", app.issuer.trim_end_matches('/'));
    let metadata = Metadata {
        issuer: app.issuer.to_string(),
        token_endpoint: address("/oauth/token"),
        revocation_endpoint: address("/oauth/revoke"),
        jwks_uri: address("/.well-known/jwks.json"),
        grant_types_supported: ["client_credentials"],
        token_endpoint_auth_methods_supported: ["client_secret_basic"],
        revocation_endpoint_auth_methods_supported: ["client_secret_basic", "none"],
        response_types_supported: [],
        scopes_supported: Scope::ALL.map(Scope::as_str),
    };
    ([CACHED], Json(metadata))
}
