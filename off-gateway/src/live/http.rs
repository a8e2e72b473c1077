//! Server-sent events.

use super::{
    Cursor, Live, LiveEvent, Next, Position, event::WholeEvent, rates::History, ring::NextEvent, system::SystemState,
};
use crate::{
    page::{Caller, Failure, ServiceApis},
    routes::Upstream,
    streams::Place,
};
use axum::{
    extract::{Path, State},
    http::{HeaderMap, HeaderName, HeaderValue, header},
    response::{
        IntoResponse, Response,
        sse::{Event, Sse},
    },
};
use futures::{Stream, StreamExt, stream};
use off_events::{OrderId, SsdId, UserId};
use off_kit::{
    auth::Subject,
    http::{CommonCode, Problem},
};
use serde::Deserialize;
use std::{collections::HashSet, convert::Infallible, time::Duration};
use tokio::time::{Instant, sleep_until, timeout_at};
use uuid::Uuid;

/// How often a stream without events has a comment, so that proxies keep its connection. The comment has the id up to
/// which nothing happened.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// Events that happen within this time are sent together, so that a busy system wakes each viewer ten times a second.
const GATHERED: Duration = Duration::from_millis(100);

/// How long a browser waits before it connects again, in milliseconds, as the first event says.
const RETRY: Duration = Duration::from_secs(2);

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// The state of the handlers.
#[derive(Debug, Clone)]
pub(crate) struct LiveApi {
    pub(crate) live: Live,
    pub(crate) services: ServiceApis,
}

/// The system as it is now, as server-sent events.
///
/// First `history` with the last five minutes, then `state` once a second. A viewer who is too slow skips to the newest
/// state.
#[utoipa::path(get, path = "/api/live", tag = "live", security(()), responses(
    (status = 200, description = "events `history` and `state`", content((History = "text/event-stream"),
        (SystemState = "text/event-stream"))),
    (status = 429, description = "too many requests of this caller, see Retry-After", body = Problem),
    (status = 503, description = "too many streams are open, see Retry-After", body = Problem)))]
pub(crate) async fn follow_system(State(api): State<LiveApi>, caller: Caller) -> Result<Response, Problem> {
    let place = enter(&api.live, &caller)?;
    let history = Event::default().event("history").retry(RETRY).json_data(api.live.history());
    let viewer = api.live.system.enter();
    let states = stream::unfold(viewer, |mut viewer| async {
        viewer.states.changed().await.ok()?;
        let event = Event::default().event("state").data(&viewer.states.borrow_and_update().json);
        Some((event, viewer))
    });
    let history = history.map_err(|_| Problem::internal())?;
    let events = stream::iter([history]).chain(states);
    Ok(answer(events, place))
}

/// The events of an order, as server-sent events.
///
/// The id of an event is for `Last-Event-ID`: who connects again with it gets what they missed. If that is not kept any
/// more, there is one event `resync`: read the order again.
#[utoipa::path(get, path = "/api/orders/{id}/live", tag = "live",
    security(("token" = ["person"]), ("token" = ["device"]), ("token" = ["simulate"]), ("token" = ["operate"])),
    params(("id" = OrderId, Path, description = "the order"),
        ("Last-Event-ID" = Option<String>, Header, description = "the id of the last event that arrived")),
    responses(
        (status = 200, description = "events named by their subjects, like `orders.paid` (WholeEvent), and `resync`",
            body = WholeEvent, content_type = "text/event-stream"),
        (status = 401, description = "no valid token", body = Problem),
        (status = 404, description = "no such order", body = Problem),
        (status = 429, description = "too many requests of this caller, see Retry-After", body = Problem),
        (status = 503, description = "too many streams are open, or a service is away, see Retry-After",
            body = Problem)))]
pub(crate) async fn follow_order(
    State(api): State<LiveApi>,
    caller: Caller,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let unknown = || Problem::not_found(format!("there is no order {id}"));
    let order = Uuid::try_parse(&id).map_err(|_| unknown())?;
    // Before the order is read, so that nothing happens in between.
    let viewer = Viewer::enter(&api.live, &headers, Wanted::Order(OrderId(order))).await;
    let found: Result<serde_json::Value, Failure> =
        api.services.get(&caller, Upstream::Orders, &format!("/api/orders/{order}")).await;
    found.map_err(|failure| match failure.status.as_u16() {
        404 => unknown(),
        401 => Problem::unauthenticated(),
        _ => away(),
    })?;
    Ok(answer(viewer.events(), enter(&api.live, &caller)?))
}

/// The events of the caller, as server-sent events: their orders, shelves and account.
///
/// The shelves are those of the devices that the caller has when the stream begins.
/// The id of an event is for `Last-Event-ID`: who connects again with it gets what they missed. If that is not kept any
/// more, there is one event `resync`: read again what is shown.
#[utoipa::path(get, path = "/api/me/live", tag = "live",
    security(("token" = ["person"]), ("token" = ["device"])),
    params(("Last-Event-ID" = Option<String>, Header, description = "the id of the last event that arrived")),
    responses(
        (status = 200, description = "events named by their subjects, like `stock.low` (WholeEvent), and `resync`",
            body = WholeEvent, content_type = "text/event-stream"),
        (status = 401, description = "no valid token", body = Problem),
        (status = 403, description = "a token of a program", body = Problem),
        (status = 429, description = "too many requests of this caller, see Retry-After", body = Problem),
        (status = 503, description = "too many streams are open, or a service is away, see Retry-After",
            body = Problem)))]
pub(crate) async fn follow_me(
    State(api): State<LiveApi>,
    caller: Caller,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let principal = caller.viewer.principal.clone().ok_or_else(Problem::unauthenticated)?;
    let wanted = match principal.subject {
        Subject::Person(person) => Wanted::Person(person, list_devices(&api, &caller, person).await?),
        Subject::Device(device) => Wanted::Device(device),
        Subject::Client(_) => return Err(Problem::new(CommonCode::Forbidden, "only people and devices have events")),
    };
    let viewer = Viewer::enter(&api.live, &headers, wanted).await;
    Ok(answer(viewer.events(), enter(&api.live, &caller)?))
}

/// The devices of a person, whose number is limited.
async fn list_devices(api: &LiveApi, caller: &Caller, person: UserId) -> Result<HashSet<SsdId>, Problem> {
    #[derive(Deserialize)]
    struct Person {
        ssd_ids: HashSet<SsdId>,
    }
    let found: Result<Person, Failure> =
        api.services.get(caller, Upstream::Users, &format!("/api/users/{person}")).await;
    Ok(found.map_err(|_| away())?.ssd_ids)
}

fn away() -> Problem {
    Problem::unavailable("a service does not answer; try again")
}

/// A place among the streams of the caller.
fn enter(live: &Live, caller: &Caller) -> Result<Place, Problem> {
    live.streams.enter(caller.viewer.rate_key.clone(), caller.viewer.principal.as_deref())
}

fn answer(events: impl Stream<Item = Event> + Send + 'static, place: Place) -> Response {
    let events = place.limit(events).map(Ok::<_, Infallible>);
    // Proxies must not gather events.
    let headers = [
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
    ];
    (headers, Sse::new(events)).into_response()
}

/// Which events a viewer wants.
#[derive(Debug)]
enum Wanted {
    Order(OrderId),
    Person(UserId, HashSet<SsdId>),
    Device(SsdId),
}

impl Wanted {
    fn contains(&self, event: &LiveEvent) -> bool {
        match self {
            Self::Order(id) => event.order == Some(*id),
            Self::Device(id) => event.device == Some(*id),
            Self::Person(id, devices) => match event.person {
                Some(person) => person == *id,
                None => event.device.is_some_and(|device| devices.contains(&device)),
            },
        }
    }
}

/// A viewer of events, and how far they are.
struct Viewer {
    live: Live,
    wanted: Wanted,
    position: Position,
    cursor: Cursor,
    /// When something was sent last, and when events were read last.
    sent_at: Instant,
    read_at: Instant,
    /// Whether the next event is `resync`.
    has_gap: bool,
    is_new: bool,
}

impl Viewer {
    async fn enter(live: &Live, headers: &HeaderMap, wanted: Wanted) -> Self {
        let last = headers.get(LAST_EVENT_ID).and_then(|id| id.to_str().ok()).filter(|id| !id.is_empty());
        // An id that is not readable, of an earlier version, means as much as one of long ago.
        let seen: Option<Cursor> = last.and_then(|id| id.parse().ok());
        let is_known = match seen {
            Some(seen) => live.is_known(seen).await,
            None => last.is_none(),
        };
        let (position, cursor, has_gap) = live.enter(seen.filter(|_| is_known));
        let has_gap = has_gap || !is_known;
        let now = Instant::now();
        Self { live: live.clone(), wanted, position, cursor, sent_at: now, read_at: now, has_gap, is_new: true }
    }

    fn events(self) -> impl Stream<Item = Event> {
        stream::unfold(self, |mut viewer| async {
            let events = viewer.next().await?;
            Some((stream::iter(events), viewer))
        })
        .flatten()
    }

    /// The next events, or a comment.
    async fn next(&mut self) -> Option<Vec<Event>> {
        if self.is_new {
            self.is_new = false;
            let start = with_id((self.cursor, Event::default().comment("").retry(RETRY)));
            let resync = std::mem::take(&mut self.has_gap).then(|| resync(self.cursor));
            return Some(std::iter::once(start).chain(resync).collect());
        }
        let mut newest = self.live.newest.subscribe();
        loop {
            let heartbeat = self.sent_at + HEARTBEAT;
            if *newest.borrow_and_update() <= self.position {
                match timeout_at(heartbeat, newest.changed()).await {
                    Ok(Ok(())) => {}
                    Ok(Err(_)) => return None,
                    Err(_) => return Some(vec![self.comment()]),
                }
            }
            sleep_until((self.read_at + GATHERED).min(heartbeat)).await;
            self.read_at = Instant::now();
            let next = self.live.after(self.position, self.cursor, |event| self.wanted.contains(event));
            let Next { position, cursor, events, has_gap } = next;
            (self.position, self.cursor) = (position, cursor);
            if has_gap {
                return Some(vec![resync(cursor)]);
            }
            if !events.is_empty() {
                self.sent_at = self.read_at;
                let event = |next: NextEvent| Event::default().event(next.subject).data(next.json);
                return Some(events.into_iter().map(|next| (next.cursor, event(next))).map(with_id).collect());
            }
            if self.read_at >= heartbeat {
                return Some(vec![self.comment()]);
            }
        }
    }

    /// A comment with the id up to which there is nothing else to say.
    fn comment(&mut self) -> Event {
        self.sent_at = Instant::now();
        with_id((self.cursor, Event::default().comment("")))
    }
}

fn with_id((cursor, event): (Cursor, Event)) -> Event {
    event.id(cursor.to_string())
}

fn resync(cursor: Cursor) -> Event {
    with_id((cursor, Event::default().event("resync").data("{}")))
}
