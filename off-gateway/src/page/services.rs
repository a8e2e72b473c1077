//! Calls the APIs of the services for the viewer of a page, with the viewer's own token: a page can do nothing that its
//! viewer could not do without it.

use super::{failure::Failure, texts, viewer::Caller};
use crate::{
    address::{FORWARDED_FOR, FORWARDED_PROTO},
    client::{self, HttpClient, OutBody, in_memory},
    config::{self, Base},
    headers::{IDEMPOTENCY_KEY, REQUEST_ID},
    routes::Upstream,
};
use axum::http::{HeaderMap, HeaderValue, Method, header, uri::PathAndQuery};
use bytes::Bytes;
use hyper::Request;
use off_events::headers::TRACEPARENT;
use off_kit::{Kit, LogLimit, telemetry};
use serde::{Serialize, de::DeserializeOwned};
use std::{sync::Arc, time::Duration};
use tracing::warn;

/// Timeout for the answer of a service.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Maximum size of an answer, in bytes: the largest one is the stock over time of a full shelf.
const MAX_ANSWER_BYTES: usize = 4 * 1024 * 1024;

/// The services, as pages use them. Clones share the connections.
#[derive(Debug, Clone)]
pub(crate) struct ServiceApis {
    client: HttpClient,
    bases: Arc<[Option<Base>]>,
    timeout: Duration,
    log_limit: Arc<LogLimit>,
}

impl ServiceApis {
    pub(crate) fn new(kit: &Kit, services: &config::Services, client: HttpClient) -> anyhow::Result<Self> {
        let bases = Upstream::ALL.iter().map(|upstream| Ok(services.place(*upstream)?.map(|place| place.api)));
        let bases = bases.collect::<anyhow::Result<Arc<[_]>>>()?;
        Ok(Self { client, bases, timeout: kit.clock.shortened(TIMEOUT), log_limit: Arc::default() })
    }

    /// The body of the answer to `GET path`.
    pub(crate) async fn get<T: DeserializeOwned>(
        &self,
        caller: &Caller,
        to: Upstream,
        path: &str,
    ) -> Result<T, Failure> {
        let answer = self.exchange(caller, to, Method::GET, path, Bytes::new(), None).await?;
        self.read(to, &answer)
    }

    /// [`Self::send`] with the method `POST`.
    pub(super) async fn post<T: DeserializeOwned>(
        &self,
        caller: &Caller,
        to: Upstream,
        path: &str,
        body: &(impl Serialize + Sync),
    ) -> Result<T, Failure> {
        self.send(caller, to, Method::POST, path, body).await
    }

    /// [`Self::post`] with the `Idempotency-Key` of a form, so that it has its effect once.
    pub(super) async fn post_once<T: DeserializeOwned>(
        &self,
        caller: &Caller,
        to: Upstream,
        path: &str,
        body: &(impl Serialize + Sync),
        key: &str,
    ) -> Result<T, Failure> {
        let key = HeaderValue::try_from(key).map_err(|_| Failure::invalid(texts::NO_KEY))?;
        let body = serde_json::to_vec(body).map_err(|error| self.log(to, error.into()))?;
        let answer = self.exchange(caller, to, Method::POST, path, body.into(), Some(key)).await?;
        self.read(to, &answer)
    }

    /// Sends `body` as JSON; returns the body of the answer.
    pub(super) async fn send<T: DeserializeOwned>(
        &self,
        caller: &Caller,
        to: Upstream,
        method: Method,
        path: &str,
        body: &(impl Serialize + Sync),
    ) -> Result<T, Failure> {
        let body = serde_json::to_vec(body).map_err(|error| self.log(to, error.into()))?;
        let answer = self.exchange(caller, to, method, path, body.into(), None).await?;
        self.read(to, &answer)
    }

    /// Revokes a session key.
    pub(super) async fn revoke(&self, caller: &Caller, key: &str) -> Result<(), Failure> {
        let form = url::form_urlencoded::Serializer::new(String::new()).append_pair("token", key).finish();
        self.exchange(caller, Upstream::Auth, Method::POST, "/oauth/revoke", form.into(), None).await.map(drop)
    }

    async fn exchange(
        &self,
        caller: &Caller,
        to: Upstream,
        method: Method,
        path: &str,
        body: Bytes,
        key: Option<HeaderValue>,
    ) -> Result<Bytes, Failure> {
        let Some(base) = self.bases.get(to as usize).and_then(Option::as_ref) else {
            return Err(Failure::not_found(texts::no_service(to.name())));
        };
        let sent = async {
            let mut request: Request<OutBody> = Request::new(in_memory(body));
            *request.method_mut() = method;
            *request.uri_mut() = base.join(PathAndQuery::try_from(path)?);
            describe(request.headers_mut(), caller, path, key)?;
            client::send(&self.client, request, MAX_ANSWER_BYTES, self.timeout).await
        };
        let answer = sent.await.map_err(|error| self.log(to, error))?;
        if answer.status().is_success() { Ok(answer.into_body()) } else { Err(Failure::of_answer(&answer)) }
    }

    fn read<T: DeserializeOwned>(&self, from: Upstream, body: &[u8]) -> Result<T, Failure> {
        // Without a body there is nothing to say: `()` is `null`.
        let body = if body.is_empty() { b"null" } else { body };
        // The error of the parser could repeat what is personal.
        let read = serde_json::from_slice(body).map_err(|error| error.classify());
        read.map_err(|kind| self.log(from, anyhow::anyhow!("its answer is not readable: {kind:?}")))
    }

    fn log(&self, service: Upstream, error: anyhow::Error) -> Failure {
        if let Some(suppressed) = self.log_limit.admit() {
            warn!(suppressed, "no answer of the {} service for a page: {error:#}", service.name());
        }
        Failure::unavailable(service.name())
    }
}

/// The headers that a service expects from the gateway.
fn describe(headers: &mut HeaderMap, caller: &Caller, path: &str, key: Option<HeaderValue>) -> anyhow::Result<()> {
    // OAuth has forms, and takes a token in the header for the credentials of a client.
    let is_oauth = path.starts_with("/oauth/");
    let kind = if is_oauth { "application/x-www-form-urlencoded" } else { "application/json" };
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(FORWARDED_FOR, HeaderValue::try_from(caller.viewer.client.address.to_string())?);
    headers.insert(FORWARDED_PROTO, caller.viewer.client.scheme());
    headers.insert(REQUEST_ID, caller.viewer.id.clone());
    let traceparent = telemetry::current_traceparent().and_then(|text| HeaderValue::try_from(text).ok());
    let more = [
        (header::AUTHORIZATION, caller.authorization.clone().filter(|_| !is_oauth)),
        (header::USER_AGENT, caller.user_agent.clone()),
        (IDEMPOTENCY_KEY, key),
        (axum::http::HeaderName::from_static(TRACEPARENT), traceparent),
    ];
    headers.extend(more.into_iter().filter_map(|(name, value)| Some((name, value?))));
    Ok(())
}
