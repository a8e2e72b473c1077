//! One Swagger UI for the documents of all services.

use crate::{
    client::{self, HttpClient},
    codes::Code,
    config::{Base, Services},
    routes::Upstream,
};
use anyhow::{Context, ensure};
use axum::http::uri::PathAndQuery;
use bytes::Bytes;
use off_kit::{Clock, Kit, LogLimit, http::Problem};
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};
use tokio::{sync::Mutex, time::Instant};
use tracing::warn;
use utoipa_swagger_ui::{Config, SwaggerUi, Url};

/// How long a document is used before it is fetched again.
const CACHE_TIME: Duration = Duration::from_secs(30);

/// Timeout of a fetch.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Maximum size of a document, in bytes.
const MAX_BYTES: usize = 2 * 1024 * 1024;

/// The documents of the services.
#[derive(Debug, Clone)]
pub(crate) struct Documents {
    client: HttpClient,
    clock: Clock,
    services: Arc<[Document]>,
    log_limit: Arc<LogLimit>,
}

#[derive(Debug)]
struct Document {
    upstream: Upstream,
    base: Base,
    /// The lock makes concurrent requests wait for the same fetch.
    fetched: Mutex<Option<(Instant, Bytes)>>,
}

impl Documents {
    pub(crate) fn new(kit: &Kit, services: &Services, client: HttpClient) -> anyhow::Result<Self> {
        let mut documents = Vec::new();
        for upstream in Upstream::ALL {
            if let Some(place) = services.place(upstream)? {
                documents.push(Document { upstream, base: place.api, fetched: Mutex::default() });
            }
        }
        Ok(Self { client, clock: kit.clock, services: documents.into(), log_limit: Arc::default() })
    }

    /// The page that shows them, and the gateway's own.
    pub(crate) fn page(&self) -> SwaggerUi {
        let names = self.services.iter().map(|document| document.upstream.name()).chain(["gateway"]);
        let urls = names.map(|name| {
            // Static for the page, which the process makes once.
            let url: &'static str = Box::leak(format!("/docs/openapi/{name}.json").into_boxed_str());
            Url::new(name, url)
        });
        SwaggerUi::new("/docs").config(Config::new(urls))
    }

    /// The document of the service with this name.
    pub(crate) async fn find(&self, name: &str) -> Result<Bytes, Problem> {
        let document = self.services.iter().find(|document| document.upstream.name() == name);
        let document = document.ok_or_else(|| Problem::not_found(format!("there is no service {name}")))?;
        let mut fetched = document.fetched.lock().await;
        if let Some((at, body)) = &*fetched
            && at.elapsed() < self.clock.shortened(CACHE_TIME)
        {
            return Ok(body.clone());
        }
        match self.fetch(&document.base).await {
            Ok(body) => {
                *fetched = Some((Instant::now(), body.clone()));
                Ok(body)
            }
            Err(error) => {
                if let Some(suppressed) = self.log_limit.admit() {
                    warn!(suppressed, "cannot fetch the document of the {name} service: {error:#}");
                }
                let stale = fetched.as_ref().map(|(_, body)| body.clone());
                stale.ok_or_else(|| Problem::unavailable("the service does not answer; try again"))
            }
        }
    }

    async fn fetch(&self, base: &Base) -> anyhow::Result<Bytes> {
        let uri = base.join(PathAndQuery::from_static("/openapi.json"));
        let (status, body) = client::get(&self.client, uri, MAX_BYTES, self.clock.shortened(TIMEOUT)).await?;
        ensure!(status.is_success(), "it answered {status}");
        let mut document: Value = serde_json::from_slice(&body).context("it is not JSON")?;
        publish(&mut document);
        Ok(serde_json::to_vec(&document)?.into())
    }
}

/// The methods of an OpenAPI path that may have an operation.
const METHODS: [&str; 8] = ["get", "put", "post", "delete", "options", "head", "patch", "trace"];

/// The answers that the gateway itself may give to any request. Where the operation has one with the same status, both
/// are possible.
const OWN_ANSWERS: [(&str, &str); 8] = [
    ("400", "the path or the head of the request can be read in more than one way"),
    ("408", "the body arrived too slowly"),
    ("413", "the body is larger than the gateway accepts"),
    ("429", "too many requests of this caller, see Retry-After"),
    ("431", "the request line and the headers are larger than 32 KiB"),
    ("502", "the service broke off its answer; the request may have had an effect"),
    ("503", "temporarily unavailable, see Retry-After"),
    ("504", "the service did not answer in time"),
];

/// Makes the document of a service one of its paths at the gateway. Paths with servers of their own are those of the
/// health port, which is not public.
fn publish(document: &mut Value) {
    let Some(document) = document.as_object_mut() else { return };
    document.insert("servers".to_owned(), json!([{"url": "/"}]));
    if let Some(paths) = document.get_mut("paths").and_then(Value::as_object_mut) {
        paths.retain(|_, item| item.get("servers").is_none());
        for item in paths.values_mut() {
            for method in METHODS {
                if let Some(operation) = item.get_mut(method) {
                    add_own_answers(operation);
                }
            }
        }
    }
    let codes = document.get_mut("components").and_then(|of| of.pointer_mut("/schemas/Problem/properties/code/enum"));
    if let Some(codes) = codes.and_then(Value::as_array_mut) {
        let missing: Vec<Value> =
            Code::NAMES.map(Value::from).into_iter().filter(|code| !codes.contains(code)).collect();
        codes.extend(missing);
    }
}

/// Adds the answers of the gateway to an operation.
fn add_own_answers(operation: &mut Value) {
    let Some(responses) = operation.get_mut("responses").and_then(Value::as_object_mut) else { return };
    for (status, description) in OWN_ANSWERS {
        responses.entry(status).or_insert_with(|| {
            let schema = json!({"schema": {"$ref": "#/components/schemas/Problem"}});
            json!({"description": description, "content": {"application/problem+json": schema}})
        });
    }
}

/// The gateway's own document, without its health port.
pub(crate) fn own(document: &utoipa::openapi::OpenApi) -> anyhow::Result<Bytes> {
    let mut document = serde_json::to_value(document)?;
    publish(&mut document);
    Ok(serde_json::to_vec(&document)?.into())
}
