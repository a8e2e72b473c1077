//! Forwards requests to the services and their answers back.

use crate::{
    address::ClientAddress,
    client::{HttpClient, OutBody, in_memory},
    codes::Code,
    config::{Base, Config},
    cors::Cors,
    headers::{self, IDEMPOTENCY_KEY},
    rates::RateKey,
    routes::Upstream,
    streams::{Place, StreamBody, Streams},
};
use axum::{
    body::{Body, Bytes, HttpBody},
    http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header, request, uri::PathAndQuery},
    response::Response,
};
use http_body_util::{BodyExt, Either, LengthLimitError, Limited};
use hyper::{Request, body::Incoming, upgrade::OnUpgrade};
use hyper_util::client::legacy::Error as ClientError;
use metrics::{Counter, Histogram, counter, histogram};
use off_kit::{
    Kit, LogLimit,
    auth::Principal,
    http::{CommonCode, Network, NetworkLimit, Problem},
};
use std::{error::Error, sync::Arc, time::Duration};
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout, timeout_at},
};
use tracing::warn;

/// Maximum number of requests that wait for one service. Services handle half as many and refuse the rest.
const MAX_WAITING: usize = 1024;

/// Bodies up to this size, in bytes, are read before they are forwarded: a slow client does not take a place of the
/// service, and the request can be repeated.
const WHOLE_BODY_BYTES: usize = 64 * 1024;

/// Bodies up to this size, in bytes, are small: the limit of connections already limits their memory.
const SMALL_BODY_BYTES: u64 = 4 * 1024;

/// How many larger bodies of one network are read at the same time, and of all networks together.
const MAX_LARGE_BODIES_OF_NETWORK: usize = 32;
const MAX_LARGE_BODIES: usize = 1024;

/// How long a client may take to send such a body.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// Sends requests to the services.
#[derive(Debug)]
pub(crate) struct Forwarder {
    client: HttpClient,
    services: [Option<Service>; Upstream::ALL.len()],
    streams: Streams,
    max_body: usize,
    timeout: Duration,
    body_timeout: Duration,
    large_bodies: Semaphore,
    large_bodies_of_networks: NetworkLimit,
    log_limit: LogLimit,
}

#[derive(Debug)]
struct Service {
    name: &'static str,
    base: Base,
    waiting: Semaphore,
    seconds: Histogram,
    repeated: Counter,
}

/// What the gateway knows about a request.
#[derive(Debug)]
pub(crate) struct About {
    pub(crate) client: ClientAddress,
    pub(crate) id: HeaderValue,
    pub(crate) traceparent: Option<String>,
    /// What the caller is counted by, for the limit of streams.
    pub(crate) rate_key: RateKey,
    /// Whom the token names.
    pub(crate) principal: Option<Arc<Principal>>,
}

impl Forwarder {
    pub(crate) fn new(kit: &Kit, config: &Config, client: HttpClient, streams: Streams) -> anyhow::Result<Self> {
        let mut services = [const { None }; Upstream::ALL.len()];
        for (service, upstream) in services.iter_mut().zip(Upstream::ALL) {
            let place = config.services.place(upstream)?;
            let name = upstream.name();
            *service = place.map(|place| Service {
                name,
                base: place.api,
                waiting: Semaphore::new(MAX_WAITING),
                seconds: histogram!("off_gateway_upstream_seconds", "upstream" => name),
                repeated: counter!("off_gateway_repeated_total", "upstream" => name),
            });
        }
        Ok(Self {
            client,
            services,
            streams,
            max_body: config.max_body_bytes,
            timeout: kit.clock.shortened(config.upstream_timeout),
            body_timeout: kit.clock.shortened(BODY_TIMEOUT),
            large_bodies: Semaphore::new(MAX_LARGE_BODIES),
            large_bodies_of_networks: NetworkLimit::new(MAX_LARGE_BODIES_OF_NETWORK),
            log_limit: LogLimit::default(),
        })
    }

    /// The answer of a service to a request.
    pub(crate) async fn forward(
        &self,
        to: Upstream,
        mut request: Request<Incoming>,
        about: About,
    ) -> Result<Response, Problem> {
        let service = self.services.get(to as usize).and_then(Option::as_ref);
        let service = service.ok_or_else(|| Problem::unavailable("this service is not there"))?;
        let websocket = if headers::wants_websocket(&request) {
            let place = self.streams.enter(about.rate_key.clone(), about.principal.as_deref())?;
            Some((hyper::upgrade::on(&mut request), place))
        } else {
            None
        };
        let (mut parts, body) = request.into_parts();
        headers::prepare_request(&mut parts.headers, about.client, &about.id, about.traceparent.as_deref());
        if to != Upstream::Auth {
            // The only other cookie is the refresh token.
            parts.headers.remove(header::COOKIE);
        }
        if websocket.is_some() {
            parts.headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
            parts.headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        }
        let target = parts.uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
        let head = Head { method: parts.method, uri: service.base.join(target), headers: parts.headers };
        let body = self.take_body(body, Network::of(about.client.address)).await?;
        let answer = {
            let overloaded = |_| Problem::unavailable("the service is overloaded; try again");
            let _waiting = service.waiting.try_acquire().map_err(overloaded)?;
            self.send(service, head, body, websocket.is_some()).await?
        };
        self.pass_on(answer, websocket, about)
    }

    /// Reads a body, unless a setting allows so large ones that it has to be read while it is forwarded.
    async fn take_body(&self, body: Incoming, network: Network) -> Result<Whole, Problem> {
        let length = body.size_hint().exact();
        if length.is_some_and(|length| length > self.max_body as u64) {
            return Err(too_large());
        }
        if body.is_end_stream() {
            return Ok(Whole::InMemory(Bytes::new()));
        }
        let body = Limited::new(body, self.max_body);
        let largest = length.map_or(self.max_body, |length| usize::try_from(length).unwrap_or(usize::MAX));
        if largest > WHOLE_BODY_BYTES {
            return Ok(Whole::Passing(body));
        }
        let _places = if length.is_none_or(|length| length > SMALL_BODY_BYTES) {
            let overloaded = || Problem::unavailable("too many large bodies at once; try again");
            let of_network = self.large_bodies_of_networks.enter(network).ok_or_else(overloaded)?;
            Some((of_network, self.large_bodies.try_acquire().map_err(|_| overloaded())?))
        } else {
            None
        };
        let Ok(read) = timeout(self.body_timeout, body.collect()).await else {
            return Err(Problem::new(Code::BodyTooSlow, "the body did not arrive in time"));
        };
        match read {
            Ok(read) => Ok(Whole::InMemory(read.to_bytes())),
            Err(error) if error.is::<LengthLimitError>() => Err(too_large()),
            Err(_) => Err(Problem::new(CommonCode::UnreadableBody, "the body did not arrive completely")),
        }
    }

    /// Sends a request, again if its connection broke and a repetition cannot do harm.
    async fn send(
        &self,
        service: &Service,
        head: Head,
        body: Whole,
        is_websocket: bool,
    ) -> Result<Response<Incoming>, Problem> {
        let started = Instant::now();
        let mut spare = match &body {
            Whole::InMemory(bytes) if head.may_repeat() && !is_websocket => Some((head.clone(), bytes.clone())),
            _ => None,
        };
        let mut request = head.request(body);
        let failure = loop {
            match timeout_at(started + self.timeout, self.client.request(request)).await {
                Ok(Ok(response)) => {
                    service.seconds.record(started.elapsed());
                    return Ok(response);
                }
                Err(_) => {
                    self.warn(service, &"no answer in time");
                    return Err(Problem::new(Code::UpstreamLate, "the service did not answer in time"));
                }
                Ok(Err(error)) if is_too_large(&error) => return Err(too_large()),
                Ok(Err(error)) if error.is_connect() => {
                    self.warn(service, &root(&error));
                    return Err(Problem::unavailable("the service is not reachable; try again"));
                }
                Ok(Err(error)) => match spare.take() {
                    Some((head, bytes)) => {
                        service.repeated.increment(1);
                        request = head.request(Whole::InMemory(bytes));
                    }
                    None => break error,
                },
            }
        };
        self.warn(service, &root(&failure));
        let detail = "the service broke off its answer; the request may have had an effect";
        Err(Problem::new(Code::UpstreamFailed, detail))
    }

    /// Makes the answer of a service that to the client.
    fn pass_on(
        &self,
        mut answer: Response<Incoming>,
        websocket: Option<(OnUpgrade, Place)>,
        about: About,
    ) -> Result<Response, Problem> {
        let upgraded = hyper::upgrade::on(&mut answer);
        let (mut parts, body) = answer.into_parts();
        parts.extensions.clear();
        headers::remove_hop_by_hop(&mut parts.headers);
        Cors::remove(&mut parts.headers);
        parts.headers.remove(header::CONTENT_SECURITY_POLICY);
        parts.headers.remove(header::REFERRER_POLICY);
        if parts.status == StatusCode::SWITCHING_PROTOCOLS {
            let detail = "the service changed to another protocol, which was not asked for";
            let (client, place) = websocket.ok_or_else(|| Problem::new(Code::UpstreamFailed, detail))?;
            self.streams.connect(client, upgraded, place);
            parts.headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
            parts.headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
            return Ok(Response::from_parts(parts, Body::empty()));
        }
        if body.is_end_stream() || body.size_hint().exact().is_some() {
            return Ok(Response::from_parts(parts, Body::new(body)));
        }
        let place = self.streams.enter(about.rate_key, about.principal.as_deref())?;
        Ok(Response::from_parts(parts, StreamBody::pass_on(body, place)))
    }

    fn warn(&self, service: &Service, cause: &dyn std::fmt::Display) {
        if let Some(suppressed) = self.log_limit.admit() {
            warn!(suppressed, "the {} service does not answer: {cause}", service.name);
        }
    }
}

/// The body of a request on its way.
enum Whole {
    InMemory(Bytes),
    Passing(Limited<Incoming>),
}

/// The head of a request on its way.
#[derive(Debug, Clone)]
struct Head {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
}

impl Head {
    /// Whether a second request has no other effect than one.
    fn may_repeat(&self) -> bool {
        self.method.is_idempotent() || self.headers.contains_key(IDEMPOTENCY_KEY)
    }

    fn request(self, body: Whole) -> Request<OutBody> {
        let body = match body {
            Whole::InMemory(bytes) => in_memory(bytes),
            Whole::Passing(body) => Either::Right(body),
        };
        let (mut parts, body): (request::Parts, OutBody) = Request::new(body).into_parts();
        (parts.method, parts.uri, parts.headers) = (self.method, self.uri, self.headers);
        Request::from_parts(parts, body)
    }
}

fn too_large() -> Problem {
    Problem::new(CommonCode::TooLarge, "the body is larger than the gateway accepts")
}

fn is_too_large(error: &ClientError) -> bool {
    let mut source = error.source();
    while let Some(error) = source {
        if error.is::<LengthLimitError>() {
            return true;
        }
        source = error.source();
    }
    false
}

/// The first cause of an error.
fn root(error: &ClientError) -> String {
    let mut root: &dyn Error = error;
    while let Some(source) = root.source() {
        root = source;
    }
    root.to_string()
}
