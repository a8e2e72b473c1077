//! An HTTP client with short methods for tests.

use crate::{eventually, tokens};
use reqwest::{Method, RequestBuilder, StatusCode, header::HeaderMap};
use serde_json::Value;
use std::sync::Once;

/// An HTTP client of one service.
#[derive(Debug, Clone)]
pub struct Http {
    base: String,
    client: reqwest::Client,
    /// The access token of all requests.
    token: Option<String>,
}

/// A response of a service.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body; a string if the body is not JSON.
    pub body: Value,
}

impl Answer {
    /// The value of a header; empty if the header is missing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The stable `code` of a problem. Panics if the response is not a problem.
    pub fn code(&self) -> &str {
        assert_eq!(self.header("content-type"), "application/problem+json", "not a problem: {self:?}");
        self.body["code"].as_str().unwrap_or_default()
    }

    /// The names of the invalid fields of a problem.
    pub fn wrong_fields(&self) -> Vec<&str> {
        let errors = self.body["errors"].as_array().map(Vec::as_slice).unwrap_or_default();
        errors.iter().filter_map(|error| error["field"].as_str()).collect()
    }
}

impl Http {
    /// A client of the service at the URL `base`, like `http://127.0.0.1:8081`, with the token of
    /// [`tokens::test_client`].
    pub fn new(base: String) -> Self {
        static PROVIDER: Once = Once::new();
        PROVIDER.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
        Self { base, client: reqwest::Client::new(), token: Some(tokens::test_client()) }
    }

    /// The same client without a token.
    #[must_use]
    pub fn anonymous(&self) -> Self {
        Self { token: None, ..self.clone() }
    }

    /// The same client with another token.
    #[must_use]
    pub fn with_token(&self, token: impl Into<String>) -> Self {
        Self { token: Some(token.into()), ..self.clone() }
    }

    /// The same client with the token of a person.
    #[must_use]
    pub fn as_person(&self, id: i64) -> Self {
        self.with_token(tokens::person(id))
    }

    /// The same client with the token of a device.
    #[must_use]
    pub fn as_device(&self, id: i64) -> Self {
        self.with_token(tokens::device(id))
    }

    /// The base URL of the service.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// A request builder, for requests with additional options.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.client.request(method, format!("{}{path}", self.base));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    /// Sends a GET request to a path.
    pub async fn get(&self, path: &str) -> Answer {
        send(self.request(Method::GET, path)).await
    }

    /// Sends a POST request with a JSON body to a path.
    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        send(self.request(Method::POST, path).json(body)).await
    }

    /// Sends a PUT request with a JSON body to a path.
    pub async fn put(&self, path: &str, body: &Value) -> Answer {
        send(self.request(Method::PUT, path).json(body)).await
    }

    /// Sends a DELETE request to a path.
    pub async fn delete(&self, path: &str) -> Answer {
        send(self.request(Method::DELETE, path)).await
    }

    /// Sends a request of [`Http::request`].
    pub async fn send(&self, request: RequestBuilder) -> Answer {
        send(request).await
    }

    /// Posts an unmodified body with the content type of JSON.
    pub async fn post_text(&self, path: &str, body: impl Into<reqwest::Body>) -> Answer {
        send(self.request(Method::POST, path).header("content-type", "application/json").body(body)).await
    }

    /// [`Http::post`] with an idempotency key.
    pub async fn post_with_key(&self, path: &str, key: &str, body: &Value) -> Answer {
        send(self.request(Method::POST, path).header("Idempotency-Key", key).json(body)).await
    }

    /// Waits until the service is ready; for the client of a health port.
    pub async fn wait_until_ready(&self) {
        eventually("the service is ready", || async { self.get("/readyz").await.status.is_success().then_some(()) })
            .await;
    }

    /// Waits until the service is not ready; for the client of a health port.
    pub async fn wait_until_not_ready(&self) {
        eventually("the service is not ready", || async { (self.get("/readyz").await.status == 503).then_some(()) })
            .await;
    }
}

/// Sends a request and reads the whole response.
async fn send(request: RequestBuilder) -> Answer {
    let response = request.send().await.expect("the service responds");
    let (status, headers) = (response.status(), response.headers().clone());
    let text = response.text().await.expect("the body can be read");
    let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
    Answer { status, headers, body }
}
