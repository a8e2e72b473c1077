//! Concurrency limit and load shedding. Requests above the limit are rejected after a pause, with as little work as
//! possible: under overload, rejections must not take resources from the requests that are being handled.

use super::{extract::unreadable_body, problem::Problem};
use crate::Clock;
use axum::{
    Router,
    body::{Body, Bytes, to_bytes},
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use bytes::BytesMut;
use futures::future::{BoxFuture, Either};
use http_body_util::BodyExt;
use hyper::{body::Incoming, service::Service};
use hyper_util::service::{TowerToHyperService, TowerToHyperServiceFuture};
use metrics::{Counter, counter};
use std::{convert::Infallible, sync::Arc, time::Duration};
use tokio::sync::{Semaphore, SemaphorePermit};
use tracing::warn;

/// Maximum size of a request body, in bytes.
const MAX_BODY_BYTES: usize = 64 * 1024;

/// Timeout of a request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Maximum number of requests that are handled concurrently: many times what the database handles concurrently, and few
/// enough that each is answered soon.
const MAX_CONCURRENT: usize = 512;

/// Pause before a rejection. It slows down clients that would retry at once, and leaves the processors to the requests
/// that are being handled.
const REJECT_AFTER: Duration = Duration::from_millis(500);

/// Bodies up to this size, in bytes, are read without a permit: the limit of connections already limits their memory.
const SMALL_BODY_BYTES: usize = 4 * 1024;

/// Maximum number of larger bodies in memory, each up to [`MAX_BODY_BYTES`].
const MAX_LARGE_BODIES: usize = 256;

/// Permits for requests that are being handled, and for large bodies in memory.
#[derive(Debug, Clone)]
pub(super) struct ConcurrencyLimit {
    requests: Arc<Semaphore>,
    large_bodies: Arc<Semaphore>,
    /// Timeout of a request.
    timeout: Duration,
}

impl ConcurrencyLimit {
    pub(super) fn new(clock: Clock) -> Self {
        Self {
            requests: Arc::new(Semaphore::new(MAX_CONCURRENT)),
            large_bodies: Arc::new(Semaphore::new(MAX_LARGE_BODIES)),
            timeout: clock.shortened(REQUEST_TIMEOUT),
        }
    }

    /// Handles a request after its body has arrived completely, so that a slow client does not hold a permit.
    async fn handle(&self, request: Request, next: Next) -> Response {
        let (parts, body) = request.into_parts();
        let (body, _large_body_permit) = match self.read(body).await {
            Ok(read) => read,
            Err(problem) => return problem.into_response(),
        };
        match self.requests.try_acquire() {
            Ok(_permit) => next.run(Request::from_parts(parts, Body::from(body))).await,
            Err(_) => overloaded().into_response(),
        }
    }

    /// Reads a body. A large one comes with a permit, which must be held as long as the body.
    async fn read(&self, mut body: Body) -> Result<(Bytes, Option<SemaphorePermit<'_>>), Problem> {
        let (mut read, mut permit) = (BytesMut::new(), None);
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| unreadable_body())?;
            let Some(data) = frame.data_ref() else { continue };
            if read.len() + data.len() > MAX_BODY_BYTES {
                return Err(Problem::too_large());
            }
            if permit.is_none() && read.len() + data.len() > SMALL_BODY_BYTES {
                permit = Some(self.large_bodies.try_acquire().map_err(|_| overloaded())?);
            }
            read.extend_from_slice(data);
        }
        Ok((read.freeze(), permit))
    }
}

fn overloaded() -> Problem {
    Problem::unavailable("the service is overloaded; try again")
}

/// Enforces the limits of body size, concurrency and time. One layer for all three, because each layer costs one or two
/// allocations per request.
pub(super) async fn enforce_limits(State(limit): State<ConcurrencyLimit>, request: Request, next: Next) -> Response {
    // A body whose declared length is too large is rejected before it is read.
    let content_length =
        request.headers().get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    if content_length.is_some_and(|length: u64| length > MAX_BODY_BYTES as u64) {
        return Problem::too_large().into_response();
    }
    tokio::time::timeout(limit.timeout, limit.handle(request, next)).await.unwrap_or_else(|_| {
        warn!("a request was not answered within {} s", limit.timeout.as_secs());
        Problem::unavailable("the request timed out; try again").into_response()
    })
}

/// Wraps the router and all its middleware: rejects requests to `/api/` while all permits are taken.
#[derive(Clone)]
pub(super) struct LoadShedder {
    app: TowerToHyperService<Router>,
    limit: ConcurrencyLimit,
    shed: Counter,
    /// The headers of the rejection, built once, like its body.
    headers: HeaderMap,
    body: Bytes,
}

impl LoadShedder {
    pub(super) async fn new(service: &'static str, app: Router, limit: ConcurrencyLimit) -> anyhow::Result<Self> {
        let (parts, body) = overloaded().into_response().into_parts();
        Ok(Self {
            app: TowerToHyperService::new(app),
            limit,
            shed: counter!("off_http_shed_total", "service" => service),
            headers: parts.headers,
            body: to_bytes(body, usize::MAX).await?,
        })
    }

    fn must_shed(&self, request: &Request<Incoming>) -> bool {
        request.uri().path().starts_with("/api/") && self.limit.requests.available_permits() == 0
    }
}

impl Service<Request<Incoming>> for LoadShedder {
    type Response = Response;
    type Error = Infallible;
    type Future =
        Either<BoxFuture<'static, Result<Response, Infallible>>, TowerToHyperServiceFuture<Router, Request<Incoming>>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        if !self.must_shed(&request) {
            return Either::Right(self.app.call(request));
        }
        self.shed.increment(1);
        let mut response = Response::new(Body::from(self.body.clone()));
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        response.headers_mut().clone_from(&self.headers);
        Either::Left(Box::pin(async move {
            tokio::time::sleep(REJECT_AFTER).await;
            Ok(response)
        }))
    }
}
