//! A stand-in for the one endpoint of the auth service that this service calls.

use axum::{Json, Router, extract::State, http::HeaderMap, response::IntoResponse, routing::post};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use url::Url;

/// A request to sign in.
#[derive(Debug, Clone)]
pub(crate) struct SignIn {
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

impl SignIn {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
    }
}

/// What the stand-in answers.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Behavior {
    SignsIn,
    Refuses,
    SendsNoTokens,
    Hangs,
}

/// The running stand-in.
#[derive(Debug, Clone)]
pub(crate) struct AuthStandIn {
    pub(crate) url: Url,
    seen: Arc<Mutex<Vec<SignIn>>>,
}

impl AuthStandIn {
    pub(crate) async fn start(behavior: Behavior) -> Self {
        let seen: Arc<Mutex<Vec<SignIn>>> = Arc::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let app = Router::new().route("/api/login", post(login)).with_state((behavior, seen.clone()));
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { url, seen }
    }

    /// The requests so far.
    pub(crate) fn seen(&self) -> Vec<SignIn> {
        self.seen.lock().unwrap().clone()
    }
}

/// The answer to a successful sign-in.
pub(crate) fn tokens() -> Value {
    json!({"access_token": "an-access-token", "token_type": "Bearer", "expires_in": 600, "scope": "person",
        "refresh_token": "a-refresh-token", "refresh_expires_in": 2_592_000})
}

async fn login(
    State((behavior, seen)): State<(Behavior, Arc<Mutex<Vec<SignIn>>>)>,
    headers: HeaderMap,
    Json(body): Json<Value>,
) -> axum::response::Response {
    seen.lock().unwrap().push(SignIn { headers, body });
    match behavior {
        Behavior::SignsIn => Json(tokens()).into_response(),
        Behavior::Refuses => axum::http::StatusCode::UNAUTHORIZED.into_response(),
        Behavior::SendsNoTokens => Json(json!({"access_token": 1})).into_response(),
        Behavior::Hangs => std::future::pending().await,
    }
}
