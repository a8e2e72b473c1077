//! What happens to a request, step by step.

use crate::{
    address::ClientAddress,
    authenticate::{Authenticator, Refused, check_person, wrong_key},
    cors::Cors,
    forward::{About, Forwarder},
    headers::{self, REQUEST_ID},
    own::not_found,
    page::{self, Viewer},
    path,
    rates::{Class, Level, RateKey, RateLimits},
    routes::{Route, To},
    session_cookie,
};
use axum::{
    Router,
    http::{HeaderValue, Method, header},
    response::{IntoResponse, Response},
};
use futures::future::BoxFuture;
use hyper::{Request, body::Incoming, service::Service};
use hyper_util::service::TowerToHyperService;
use off_events::headers::TRACEPARENT;
use off_kit::{
    http::{CommonCode, Durations, Peer, Problem},
    telemetry,
};
use std::{convert::Infallible, net::Ipv4Addr, sync::Arc, time::Instant};
use tracing::{Instrument, Span, debug, info_span, warn};

/// The methods that pass.
const METHODS: [Method; 7] =
    [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::DELETE, Method::PATCH, Method::OPTIONS];
const ALLOWED: HeaderValue = HeaderValue::from_static("GET, HEAD, POST, PUT, DELETE, PATCH, OPTIONS");

/// The label of requests that no route has: clients could send any number of paths.
const UNKNOWN: &str = "unknown";

/// The path of the form that ends a session.
const SIGN_OUT: &str = "/sign-out";

/// Answers all requests. Clones share everything.
#[derive(Clone)]
pub(crate) struct Gate(pub(crate) Arc<Parts>);

/// What the steps need.
pub(crate) struct Parts {
    pub(crate) authenticator: Authenticator,
    pub(crate) rates: Arc<RateLimits>,
    pub(crate) cors: Cors,
    pub(crate) forwarder: Forwarder,
    pub(crate) own: TowerToHyperService<Router>,
    pub(crate) durations: Durations,
    pub(crate) trusted_proxies: u8,
}

/// An answer, and the rate limit of the caller after it.
type Answered = (Response, Option<Level>);

impl Service<Request<Incoming>> for Gate {
    type Response = Response;
    type Error = Infallible;
    /// In a box: a connection keeps room for the future of its next request while it is idle.
    type Future = BoxFuture<'static, Result<Response, Infallible>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let parts = self.0.clone();
        Box::pin(async move { Ok(parts.answer(request).await) })
    }
}

impl Parts {
    async fn answer(&self, request: Request<Incoming>) -> Response {
        let started = Instant::now();
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let peer = request.extensions().get::<Peer>().copied();
        let peer = peer.unwrap_or(Peer { address: Ipv4Addr::UNSPECIFIED.into(), tls: false });
        let client = ClientAddress::of(peer, request.headers(), self.trusted_proxies);
        let id = headers::request_id(request.headers());
        let origin = self.cors.allowed(request.headers());
        let route = Route::of(&path);
        let label = route.map_or(UNKNOWN, |route| route.pattern);
        let span = span(&method, &path, label);
        let traceparent = request.headers().get(TRACEPARENT).and_then(|value| value.to_str().ok());
        telemetry::continue_trace(&span, traceparent);
        let is_page = page::is_wanted(&path, request.headers());
        let (mut response, level) = self.pass(request, route, client, &id).instrument(span.clone()).await;
        if is_page {
            response = page::show_problem(response).await;
        }
        let status = response.status();
        let headers = response.headers_mut();
        self.cors.describe(origin, headers);
        headers::secure_response(headers, &path, client);
        headers.insert(REQUEST_ID, id);
        if let Some(level) = level {
            self.rates.describe(level, headers);
        }
        let elapsed = started.elapsed();
        self.durations.record(&method, label, status, elapsed);
        span.record("http.response.status_code", status.as_u16());
        span.in_scope(|| {
            let (status, duration_ms) = (status.as_u16(), elapsed.as_secs_f64() * 1000.0);
            // These are logged at their cause.
            if status >= 500 && !matches!(status, 502..=504) {
                warn!(status, duration_ms, "{method} {path} answered {status}");
            } else {
                debug!(status, duration_ms, "{method} {path} answered {status}");
            }
        });
        response
    }

    /// Lets a request pass, or answers it.
    async fn pass(
        &self,
        request: Request<Incoming>,
        route: Option<&'static Route>,
        client: ClientAddress,
        id: &HeaderValue,
    ) -> Answered {
        let checked = path::check(request.uri()).and_then(|()| headers::check(&request));
        let is_refused = checked.is_err() || route.is_none() || !METHODS.contains(request.method());
        if is_refused && let Err(exceeded) = self.rates.take(Class::Anonymous, RateKey::network(client.address)) {
            return (self.rates.refuse(exceeded), None);
        }
        if let Err(problem) = checked {
            // Where the next request begins on this connection may be ambiguous, too.
            let close = HeaderValue::from_static("close");
            return (([(header::CONNECTION, close)], problem).into_response(), None);
        }
        if !METHODS.contains(request.method()) {
            let problem = Problem::new(CommonCode::MethodNotAllowed, "the gateway does not support this method");
            return (([(header::ALLOW, ALLOWED)], problem).into_response(), None);
        }
        let Some(route) = route else { return (not_found().into_response(), None) };
        if let Some(preflight) = self.cors.answer_preflight(&request) {
            return match self.rates.take(Class::Anonymous, RateKey::network(client.address)) {
                Ok(level) => (preflight, level),
                Err(exceeded) => (self.rates.refuse(exceeded), None),
            };
        }
        match self.pass_to(route, request, client, id.clone()).await {
            Ok(answered) => answered,
            Err(Refused::Problem(problem)) => (problem.into_response(), None),
            Err(Refused::WrongKey) => (wrong_key().into_response(), None),
            Err(Refused::TooMany(exceeded)) => (self.rates.refuse(exceeded), None),
        }
    }

    async fn pass_to(
        &self,
        route: &'static Route,
        mut request: Request<Incoming>,
        client: ClientAddress,
        id: HeaderValue,
    ) -> Result<Answered, Refused> {
        let authenticated = self.authenticator.identify(route, request.method(), request.headers(), client).await?;
        if let Some(principal) = &authenticated.principal {
            check_person(request.uri().path(), principal)?;
        }
        if let Some(authorization) = authenticated.authorization {
            request.headers_mut().insert(header::AUTHORIZATION, authorization);
        }
        let to = match route.to {
            To::Gateway => {
                request.extensions_mut().insert(Viewer {
                    principal: authenticated.principal,
                    rate_key: authenticated.rate_key,
                    client,
                    id,
                    is_unknown: authenticated.is_unknown,
                });
                let signed_out = (request.uri().path() == SIGN_OUT).then(|| request.headers().clone());
                // A page that reconnects must not remove the cookie of a sign-in that happened meanwhile.
                let is_api = request.uri().path().starts_with("/api/");
                let Ok(mut response) = self.own.call(request).await;
                if let Some(headers) = signed_out.filter(|_| response.status().is_redirection()) {
                    self.authenticator.forget_session(&headers);
                }
                if authenticated.has_ended && !is_api && !response.headers().contains_key(header::SET_COOKIE) {
                    response.headers_mut().insert(header::SET_COOKIE, session_cookie::removed());
                }
                return Ok((response, authenticated.level));
            }
            To::Service(upstream) => upstream,
        };
        let about = About {
            client,
            id,
            traceparent: telemetry::current_traceparent(),
            rate_key: authenticated.rate_key,
            principal: authenticated.principal,
        };
        let answer = self.forwarder.forward(to, request, about).await;
        Ok((answer.unwrap_or_else(IntoResponse::into_response), authenticated.level))
    }
}

fn span(method: &Method, path: &str, route: &str) -> Span {
    if telemetry::is_exported() {
        info_span!("http", otel.name = format!("{method} {route}"), otel.kind = "server", service = "gateway",
            http.request.method = %method, url.path = path, http.response.status_code = tracing::field::Empty,
            trace_id = tracing::field::Empty)
    } else {
        info_span!("http", service = "gateway", trace_id = tracing::field::Empty)
    }
}
