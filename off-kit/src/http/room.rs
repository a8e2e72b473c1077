//! Room for so many requests at once. Who comes while there is none is told so after a pause, and nothing else is done: the more
//! there is to refuse, the less may each refusal take from those who are being answered.

use super::{extract::unreadable_body, problem::Problem};
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

/// The largest body a service reads, in bytes.
const BODY_LIMIT: usize = 64 * 1024;

/// How long a request may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// The most requests that are being answered at once: many times what the database works on, and few enough that each
/// is answered soon.
const AT_ONCE: usize = 512;

/// How long a request waits that is rejected. Clients that would retry at once have to wait, and the processors are left to
/// requests that are being answered.
const REJECT_AFTER: Duration = Duration::from_millis(500);

/// A body up to this size, in bytes, is read whoever else sends one: connections are limited, and so then is the memory.
const SMALL_BODY: usize = 4 * 1024;

/// The most larger bodies that are held at once, each up to [`BODY_LIMIT`].
const LARGE_BODIES: usize = 256;

/// Places for the requests that are being answered, and for the large bodies that are being read or held.
#[derive(Debug, Clone)]
pub(super) struct Room {
    requests: Arc<Semaphore>,
    large_bodies: Arc<Semaphore>,
}

impl Room {
    pub(super) fn new() -> Self {
        Self { requests: Arc::new(Semaphore::new(AT_ONCE)), large_bodies: Arc::new(Semaphore::new(LARGE_BODIES)) }
    }

    /// Answers once all of the request is there: who sends slowly takes nobody's place.
    async fn answer(&self, request: Request, next: Next) -> Response {
        let (parts, body) = request.into_parts();
        let (body, _held_until_answered) = match self.read(body).await {
            Ok(read) => read,
            Err(problem) => return problem.into_response(),
        };
        match self.requests.try_acquire() {
            Ok(_held_until_answered) => next.run(Request::from_parts(parts, Body::from(body))).await,
            Err(_) => no_room().into_response(),
        }
    }

    /// Reads a body; one that is larger than a small one comes with its place, to be held as long as it is.
    async fn read(&self, mut body: Body) -> Result<(Bytes, Option<SemaphorePermit<'_>>), Problem> {
        let (mut read, mut place) = (BytesMut::new(), None);
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| unreadable_body())?;
            let Some(data) = frame.data_ref() else { continue };
            if read.len() + data.len() > BODY_LIMIT {
                return Err(Problem::too_large());
            }
            if place.is_none() && read.len() + data.len() > SMALL_BODY {
                place = Some(self.large_bodies.try_acquire().map_err(|_| no_room())?);
            }
            read.extend_from_slice(data);
        }
        Ok((read.freeze(), place))
    }
}

fn no_room() -> Problem {
    Problem::unavailable("more requests arrive than can be answered; try again")
}

/// Answers a request whose body is small enough, while there is room, in time. One layer for all three: each costs a request an
/// allocation or two.
pub(super) async fn answer_within_limits(State(room): State<Room>, request: Request, next: Next) -> Response {
    // What says that it is too large is refused before anything of it arrives.
    let announced = request.headers().get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    if announced.is_some_and(|length: u64| length > BODY_LIMIT as u64) {
        return Problem::too_large().into_response();
    }
    tokio::time::timeout(ANSWER_WITHIN, room.answer(request, next)).await.unwrap_or_else(|_| {
        warn!("a request was not answered within {} s", ANSWER_WITHIN.as_secs());
        Problem::unavailable("the answer took too long; try again").into_response()
    })
}

/// What every request comes through first.
#[derive(Clone)]
pub(super) struct Door {
    app: TowerToHyperService<Router>,
    room: Room,
    turned_away: Counter,
    /// The answer to who is turned away, made once.
    headers: HeaderMap,
    body: Bytes,
}

impl Door {
    pub(super) async fn new(service: &'static str, app: Router, room: Room) -> anyhow::Result<Self> {
        let (parts, body) = no_room().into_response().into_parts();
        Ok(Self {
            app: TowerToHyperService::new(app),
            room,
            turned_away: counter!("off_http_turned_away_total", "service" => service),
            headers: parts.headers,
            body: to_bytes(body, usize::MAX).await?,
        })
    }

    fn is_full_for(&self, request: &Request<Incoming>) -> bool {
        request.uri().path().starts_with("/api/") && self.room.requests.available_permits() == 0
    }
}

impl Service<Request<Incoming>> for Door {
    type Response = Response;
    type Error = Infallible;
    type Future =
        Either<BoxFuture<'static, Result<Response, Infallible>>, TowerToHyperServiceFuture<Router, Request<Incoming>>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        if !self.is_full_for(&request) {
            return Either::Right(self.app.call(request));
        }
        self.turned_away.increment(1);
        let mut answer = Response::new(Body::from(self.body.clone()));
        *answer.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        answer.headers_mut().clone_from(&self.headers);
        Either::Left(Box::pin(async move {
            tokio::time::sleep(REJECT_AFTER).await;
            Ok(answer)
        }))
    }
}
