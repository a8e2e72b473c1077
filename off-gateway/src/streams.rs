//! Streams: answers without a length, like server-sent events, and connections that became WebSockets. They would keep
//! the gateway from stopping, outlive the token of their caller and take a connection each, so all three are limited.

use crate::rates::RateKey;
use axum::body::{Body, Bytes, HttpBody};
use futures::{Stream, StreamExt, future::BoxFuture};
use hyper::{
    body::{Frame, Incoming, SizeHint},
    upgrade::OnUpgrade,
};
use hyper_util::rt::TokioIo;
use metrics::{Gauge, gauge};
use off_kit::{
    Clock, Kit, Tasks,
    auth::{Principal, Verifier},
    http::Problem,
};
use std::{
    collections::HashMap,
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};
use tokio::{io::copy_bidirectional, time::sleep};
use tokio_util::task::TaskTracker;
use tracing::debug;
use uuid::Uuid;

/// After the gateway was asked to stop, streams end at random within this time, so that their clients do not all come
/// back at once.
const SPREAD: Duration = Duration::from_secs(3);

/// How often a stream looks whether the session of its caller has ended.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// How long both ends may take to become a WebSocket after they agreed.
const UPGRADE_TIMEOUT: Duration = Duration::from_secs(10);

/// The open streams. Clones share them.
#[derive(Clone)]
pub(crate) struct Streams {
    tasks: Tasks,
    clock: Clock,
    tunnels: TaskTracker,
    limit: usize,
    limit_per_caller: usize,
    open: Arc<Mutex<Open>>,
    gauge: Gauge,
    /// Whether a session or key was revoked.
    is_revoked: Arc<dyn Fn(Uuid) -> bool + Send + Sync>,
    /// A number from 0 to 1, for each stream another.
    random: fn() -> f64,
}

#[derive(Debug, Default)]
struct Open {
    total: usize,
    by_caller: HashMap<RateKey, usize>,
}

/// A place among the open streams.
pub(crate) struct Place {
    streams: Streams,
    key: RateKey,
    ends: BoxFuture<'static, ()>,
}

impl fmt::Debug for Streams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Streams").field("limit", &self.limit).finish_non_exhaustive()
    }
}

impl Streams {
    /// No streams yet. `kit` waits for WebSockets to end.
    pub(crate) fn new(kit: &Kit, verifier: &Verifier, limit: usize, limit_per_caller: usize) -> Self {
        let verifier = verifier.clone();
        let streams = Self {
            tasks: kit.tasks.clone(),
            clock: kit.clock,
            tunnels: TaskTracker::new(),
            limit,
            limit_per_caller,
            open: Arc::default(),
            gauge: gauge!("off_gateway_streams"),
            is_revoked: Arc::new(move |sid| verifier.is_revoked(sid)),
            random: rand::random,
        };
        let (tasks, tunnels) = (kit.tasks.clone(), streams.tunnels.clone());
        kit.tasks.spawn("streams", async move {
            tasks.stopping().await;
            tunnels.close();
            tunnels.wait().await;
            Ok(())
        });
        streams
    }

    /// A place for one more stream of `key`, which ends when the gateway stops, and when the token of the caller expires or
    /// its session ends.
    pub(crate) fn enter(&self, key: RateKey, caller: Option<&Principal>) -> Result<Place, Problem> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let of_caller = open.by_caller.get(&key).copied().unwrap_or_default();
        if open.total >= self.limit || of_caller >= self.limit_per_caller {
            return Err(Problem::unavailable("too many streams are open; close some, or try again"));
        }
        open.total += 1;
        open.by_caller.insert(key.clone(), of_caller + 1);
        drop(open);
        self.gauge.increment(1.0);
        let (tasks, delay) = (self.tasks.clone(), SPREAD.mul_f64((self.random)().clamp(0.0, 1.0)));
        let delay = self.clock.shortened(delay);
        let left = |at: i64| at.saturating_sub(self.clock.now().timestamp()).try_into().unwrap_or_default();
        let token = caller.map(|caller| (left(caller.expires_at), caller.sid));
        let (is_revoked, pause) = (self.is_revoked.clone(), self.clock.shortened(CHECK_INTERVAL));
        let ends = Box::pin(async move {
            let expires = async {
                let Some((seconds, sid)) = token else { return std::future::pending().await };
                let revoked = async {
                    while !is_revoked(sid) {
                        sleep(pause).await;
                    }
                };
                let _ = tokio::time::timeout(Duration::from_secs(seconds), revoked).await;
            };
            let stops = async {
                tasks.stopping().await;
                sleep(delay).await;
            };
            tokio::select! {
                () = expires => {}
                () = stops => {}
            }
        });
        Ok(Place { streams: self.clone(), key, ends })
    }

    /// Connects both ends once they are no longer HTTP, until one of them closes or `place` ends.
    pub(crate) fn connect(&self, client: OnUpgrade, service: OnUpgrade, mut place: Place) {
        self.tunnels.spawn(async move {
            let tunnel = async {
                let both = async { tokio::try_join!(client, service) };
                let Ok(Ok((client, service))) = tokio::time::timeout(UPGRADE_TIMEOUT, both).await else { return };
                let (mut client, mut service) = (TokioIo::new(client), TokioIo::new(service));
                if let Err(error) = copy_bidirectional(&mut client, &mut service).await {
                    debug!("a WebSocket ended early: {error}");
                }
            };
            tokio::select! {
                () = tunnel => {}
                () = &mut place.ends => {}
            }
        });
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.streams.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.total = open.total.saturating_sub(1);
        if let Some(count) = open.by_caller.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                open.by_caller.remove(&self.key);
            }
        }
        self.streams.gauge.decrement(1.0);
    }
}

impl Place {
    /// `stream` until it or this place ends.
    pub(crate) fn limit<S: Stream>(mut self, stream: S) -> impl Stream<Item = S::Item> {
        let ends = std::mem::replace(&mut self.ends, Box::pin(std::future::pending()));
        stream.take_until(ends).map(move |item| {
            // The stream keeps the place as long as it exists.
            let _ = &self;
            item
        })
    }
}

/// The body of an answer without a length.
pub(crate) struct StreamBody {
    inner: Incoming,
    place: Place,
}

impl StreamBody {
    /// Passes `inner` on until it or `place` ends.
    pub(crate) fn pass_on(inner: Incoming, place: Place) -> Body {
        Body::new(Self { inner, place })
    }
}

impl HttpBody for StreamBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if self.place.ends.as_mut().poll(context).is_ready() {
            return Poll::Ready(None);
        }
        Pin::new(&mut self.inner).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use off_events::UserId;
    use off_kit::auth::Subject;
    use tokio::time::Instant;

    fn streams(random: fn() -> f64) -> Streams {
        Streams {
            tasks: Tasks::new("test"),
            clock: Clock::real(1.0),
            tunnels: TaskTracker::new(),
            limit: 3,
            limit_per_caller: 2,
            open: Arc::default(),
            gauge: Gauge::noop(),
            is_revoked: Arc::new(|sid| sid == Uuid::max()),
            random,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_ends_a_random_time_after_the_stop() {
        let streams = streams(|| 0.5);
        let mut place = streams.enter(RateKey::network([192, 0, 2, 1].into()), None).unwrap();
        streams.tasks.stop();
        let stopped_at = Instant::now();
        (&mut place.ends).await;
        assert_eq!(stopped_at.elapsed().as_millis(), 1500);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_ends_with_the_token_of_its_caller() {
        let streams = streams(|| 0.0);
        let now = streams.clock.now().timestamp();
        let principal = |sid| Principal {
            subject: Subject::Person(UserId(1)),
            scopes: std::iter::empty().collect(),
            sid,
            expires_at: now + 60,
        };
        let key = || RateKey::network([192, 0, 2, 1].into());
        let (mut place, started) = (streams.enter(key(), Some(&principal(Uuid::nil()))).unwrap(), Instant::now());
        (&mut place.ends).await;
        assert!((59..=61).contains(&started.elapsed().as_secs()));
        // A session that was revoked ends at once.
        let (mut place, started) = (streams.enter(key(), Some(&principal(Uuid::max()))).unwrap(), Instant::now());
        (&mut place.ends).await;
        assert!(started.elapsed().as_secs() <= 1);
    }

    #[tokio::test]
    async fn the_number_of_streams_is_limited_for_each_caller_and_for_all() {
        let streams = streams(|| 0.0);
        let first = streams.enter(RateKey::network([192, 0, 2, 1].into()), None).unwrap();
        let _second = streams.enter(RateKey::network([192, 0, 2, 1].into()), None).unwrap();
        assert!(streams.enter(RateKey::network([192, 0, 2, 1].into()), None).is_err());
        let _other = streams.enter(RateKey::network([192, 0, 2, 2].into()), None).unwrap();
        assert!(streams.enter(RateKey::network([192, 0, 2, 3].into()), None).is_err());
        drop(first);
        assert!(streams.enter(RateKey::network([192, 0, 2, 1].into()), None).is_ok());
        assert!(streams.enter(RateKey::network([192, 0, 2, 3].into()), None).is_ok());
    }
}
