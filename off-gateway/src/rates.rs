//! Rate limits: a leaky bucket for each caller (GCRA), in a cache that forgets the callers of long ago.

use crate::codes::Code;
use axum::{
    http::{HeaderMap, HeaderName, HeaderValue, header},
    response::{IntoResponse, Response},
};
use metrics::counter;
use off_kit::{
    auth::{Principal, Scope, Subject},
    http::{Network, Problem},
};
use quick_cache::sync::Cache;
use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::time::Instant;

/// How many callers are remembered.
const CALLERS: usize = 100_000;

const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const STATE: HeaderName = HeaderName::from_static("ratelimit");

/// A number of requests in a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// How many.
    pub requests: u32,
    /// In which time.
    pub window: Duration,
}

/// The kinds of callers, each with a rate of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Class {
    /// An address, by requests without a token.
    Anonymous,
    /// An address, by requests that sign in, or tell as much about an account.
    SignIn,
    /// An address, by requests with a token that is not valid.
    InvalidToken,
    /// An address, by requests with Basic credentials that are not valid.
    InvalidKey,
    /// A person.
    Person,
    /// A device.
    Device,
    /// A caller that simulates households or operates.
    Client,
}

impl Class {
    pub(crate) const ALL: [Self; 7] =
        [Self::Anonymous, Self::SignIn, Self::InvalidToken, Self::InvalidKey, Self::Person, Self::Device, Self::Client];

    /// The class of a caller with a token.
    pub(crate) fn of(principal: &Principal) -> Self {
        let scopes = principal.scopes;
        match principal.subject {
            _ if scopes.contains(Scope::Simulate) || scopes.contains(Scope::Operate) => Self::Client,
            Subject::Person(_) | Subject::Client(_) => Self::Person,
            Subject::Device(_) => Self::Device,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Anonymous => "anonymous",
            Self::SignIn => "sign-in",
            Self::InvalidToken => "invalid-token",
            Self::InvalidKey => "invalid-key",
            Self::Person => "person",
            Self::Device => "device",
            Self::Client => "client",
        }
    }
}

/// What the requests of a caller are counted by, within its class.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum RateKey {
    Network(Network),
    Subject(Subject),
}

impl RateKey {
    /// The network of an address: an IPv6 client has a whole /56 for itself.
    pub(crate) fn network(address: IpAddr) -> Self {
        Self::Network(Network::of(address))
    }
}

/// The rate limits of all callers.
#[derive(Debug)]
pub(crate) struct RateLimits {
    limits: [Option<Limit>; Class::ALL.len()],
    /// When the bucket of each caller is empty, in nanoseconds since `started`.
    buckets: Cache<(Class, RateKey), Arc<AtomicU64>>,
    started: Instant,
}

/// A rate, prepared.
#[derive(Debug)]
struct Limit {
    requests: u64,
    /// The time that one request takes from the bucket, in nanoseconds.
    cost: u64,
    policy: HeaderValue,
}

/// The state of a bucket after a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Level {
    class: Class,
    /// Requests that are possible at once.
    pub(crate) remaining: u64,
    /// Until the bucket is empty.
    reset: Duration,
}

/// A request above the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Exceeded {
    level: Level,
    /// Until one request is possible.
    pub(crate) retry_after: Duration,
}

impl RateLimits {
    /// The limits by class; a class without a rate has none.
    pub(crate) fn new(rate: impl Fn(Class) -> Option<Rate>) -> Self {
        let limits = Class::ALL.map(|class| rate(class).map(|rate| Limit::new(class, rate)));
        Self { limits, buckets: Cache::new(CALLERS), started: Instant::now() }
    }

    /// Counts a request of `key`. `None` if the class has no limit.
    pub(crate) fn take(&self, class: Class, key: RateKey) -> Result<Option<Level>, Exceeded> {
        let Some(limit) = self.limit(class) else { return Ok(None) };
        let bucket =
            self.buckets.get_or_insert_with(&(class, key), || Ok::<_, std::convert::Infallible>(Arc::default()));
        let Ok(bucket) = bucket;
        let now = self.now();
        // Concurrent requests of one caller must not pass as one.
        let taken =
            bucket.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |empty_at| limit.fill(empty_at, now).ok());
        match taken {
            Ok(before) => Ok(Some(limit.level(class, limit.fill(before, now).unwrap_or(now), now))),
            Err(empty_at) => {
                counter!("off_gateway_rate_limited_total", "class" => class.name()).increment(1);
                let retry_after = Duration::from_nanos(limit.fill(empty_at, now).err().unwrap_or_default());
                Err(Exceeded { level: limit.level(class, empty_at, now), retry_after })
            }
        }
    }

    /// Whether `key` could make a request now, without counting one.
    pub(crate) fn check(&self, class: Class, key: RateKey) -> Result<(), Exceeded> {
        let Some(limit) = self.limit(class) else { return Ok(()) };
        let Some(bucket) = self.buckets.get(&(class, key)) else { return Ok(()) };
        let (empty_at, now) = (bucket.load(Ordering::Relaxed), self.now());
        limit.fill(empty_at, now).map(drop).map_err(|nanoseconds| {
            counter!("off_gateway_rate_limited_total", "class" => class.name()).increment(1);
            let retry_after = Duration::from_nanos(nanoseconds);
            Exceeded { level: limit.level(class, empty_at, now), retry_after }
        })
    }

    /// Adds `RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers).
    pub(crate) fn describe(&self, level: Level, headers: &mut HeaderMap) {
        let Some(limit) = self.limit(level.class) else { return };
        headers.insert(POLICY, limit.policy.clone());
        let state = format!("\"{}\";r={};t={}", level.class.name(), level.remaining, seconds(level.reset));
        if let Ok(state) = HeaderValue::try_from(state) {
            headers.insert(STATE, state);
        }
    }

    /// 429.
    pub(crate) fn refuse(&self, exceeded: Exceeded) -> Response {
        let detail = "too many requests; Retry-After says when to try again";
        let mut response = Problem::new(Code::RateLimited, detail).into_response();
        response.headers_mut().insert(header::RETRY_AFTER, seconds(exceeded.retry_after).into());
        self.describe(exceeded.level, response.headers_mut());
        response
    }

    fn limit(&self, class: Class) -> Option<&Limit> {
        self.limits.get(class as usize)?.as_ref()
    }

    fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// Whole seconds, rounded up.
fn seconds(duration: Duration) -> u64 {
    duration.as_nanos().div_ceil(1_000_000_000).try_into().unwrap_or(u64::MAX)
}

impl Limit {
    fn new(class: Class, rate: Rate) -> Self {
        let window = u64::try_from(rate.window.as_nanos()).unwrap_or(u64::MAX);
        let policy = format!("\"{}\";q={};w={}", class.name(), rate.requests, seconds(rate.window));
        let policy = HeaderValue::try_from(policy).unwrap_or_else(|_| HeaderValue::from_static(""));
        let requests = u64::from(rate.requests);
        Self { requests, cost: (window / requests).max(1), policy }
    }

    /// When the bucket is empty after one more request; or how long it lacks for one.
    fn fill(&self, empty_at: u64, now: u64) -> Result<u64, u64> {
        let filled = empty_at.max(now).saturating_add(self.cost);
        let full = now.saturating_add(self.cost.saturating_mul(self.requests));
        if filled <= full { Ok(filled) } else { Err(filled - full) }
    }

    fn level(&self, class: Class, empty_at: u64, now: u64) -> Level {
        let used = empty_at.saturating_sub(now);
        let remaining = self.requests.saturating_sub(used.div_ceil(self.cost));
        Level { class, remaining, reset: Duration::from_nanos(used) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use off_events::UserId;

    fn limits() -> RateLimits {
        let rate = Rate { requests: 3, window: Duration::from_mins(1) };
        RateLimits::new(|class| (class == Class::Person).then_some(rate))
    }

    fn person(id: i64) -> RateKey {
        RateKey::Subject(Subject::Person(UserId(id)))
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_passes_and_then_one_request_in_each_interval() {
        let limits = limits();
        for remaining in [2, 1, 0] {
            assert_eq!(limits.take(Class::Person, person(1)).unwrap().unwrap().remaining, remaining);
        }
        let exceeded = limits.take(Class::Person, person(1)).unwrap_err();
        assert_eq!(exceeded.retry_after, Duration::from_secs(20));
        assert!(limits.take(Class::Person, person(2)).is_ok(), "another caller has another bucket");
        tokio::time::advance(Duration::from_secs(20)).await;
        assert!(limits.check(Class::Person, person(1)).is_ok());
        assert!(limits.take(Class::Person, person(1)).is_ok());
        assert!(limits.check(Class::Person, person(1)).is_err());
        assert!(limits.take(Class::Person, person(1)).is_err());
        tokio::time::advance(Duration::from_hours(1)).await;
        assert_eq!(limits.take(Class::Person, person(1)).unwrap().unwrap().remaining, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn the_headers_tell_the_policy_and_the_state() {
        let limits = limits();
        let level = limits.take(Class::Person, person(1)).unwrap().unwrap();
        let mut headers = HeaderMap::new();
        limits.describe(level, &mut headers);
        assert_eq!(
            (&headers[POLICY], &headers[STATE]),
            (&"\"person\";q=3;w=60".parse().unwrap(), &"\"person\";r=2;t=20".parse().unwrap())
        );
    }

    #[test]
    fn an_ipv6_client_cannot_use_the_many_addresses_it_has() {
        let network = |address: &str| RateKey::network(address.parse().unwrap());
        assert_eq!(network("2001:db8:0:100::1"), network("2001:db8:0:1ff:ffff::2"));
        assert_ne!(network("2001:db8:0:100::1"), network("2001:db8:0:200::1"));
        assert_ne!(network("192.0.2.1"), network("192.0.2.2"));
    }
}
