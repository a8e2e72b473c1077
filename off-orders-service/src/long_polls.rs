//! Long polls: requests that are answered when their order is no longer pending. They poll its row, because another
//! replica may handle the event that changes it, and replicas share no memory.

use off_kit::{Clock, Kit, Tasks, backoff::Backoff};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep_until},
};

/// How long a request may ask to wait. Less than the timeouts of a request here and at the gateway
/// (`UPSTREAM_TIMEOUT`), 10 s, and than the grace period in which a gateway that stops finishes its requests, 7 s.
pub(crate) const MAX_TIME: Duration = Duration::from_secs(5);

/// Maximum number of long polls: half of the requests that the service handles concurrently, so that others are handled,
/// too.
const MAX_LONG_POLLS: usize = 256;

/// The first and the longest pause between two looks at the row. Most orders are paid within some 100 ms.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const MAX_PAUSE: Duration = Duration::from_millis(200);

/// Limits the long polls of this process. Clones share the limit.
#[derive(Debug, Clone)]
pub(crate) struct LongPolls {
    permits: Arc<Semaphore>,
    tasks: Tasks,
    clock: Clock,
}

/// One request that waits.
#[derive(Debug)]
pub(crate) struct LongPoll {
    ends_at: Instant,
    pauses: Backoff,
    tasks: Tasks,
    _permit: OwnedSemaphorePermit,
}

impl LongPolls {
    pub(crate) fn new(kit: &Kit) -> Self {
        Self { permits: Arc::new(Semaphore::new(MAX_LONG_POLLS)), tasks: kit.tasks.clone(), clock: kit.clock }
    }

    /// A long poll of `time`; `None` if there are too many already.
    pub(crate) fn begin(&self, time: Duration) -> Option<LongPoll> {
        let permit = self.permits.clone().try_acquire_owned().ok()?;
        Some(LongPoll {
            ends_at: Instant::now() + self.clock.shortened(time),
            pauses: Backoff::new(FIRST_PAUSE, MAX_PAUSE),
            tasks: self.tasks.clone(),
            _permit: permit,
        })
    }
}

impl LongPoll {
    /// Pauses before another look at the row. Returns false when the time is over, or when the shutdown starts.
    pub(crate) async fn pause(&mut self) -> bool {
        let now = Instant::now();
        if now >= self.ends_at {
            return false;
        }
        tokio::select! {
            biased;
            () = self.tasks.stopping() => false,
            () = sleep_until(self.ends_at.min(now + self.pauses.pause())) => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn long_polls(permits: usize) -> LongPolls {
        LongPolls { permits: Arc::new(Semaphore::new(permits)), tasks: Tasks::new("test"), clock: Clock::real(1.0) }
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_poll_takes_its_time_with_a_last_look_at_its_end() {
        let (started, mut poll) = (Instant::now(), long_polls(1).begin(Duration::from_secs(2)).unwrap());
        let mut looks = Vec::new();
        while poll.pause().await {
            looks.push(Instant::now());
        }
        assert!((2000..=2001).contains(&started.elapsed().as_millis()), "{:?}", started.elapsed());
        let longest = looks.windows(2).map(|pair| pair[1].duration_since(pair[0])).max().unwrap();
        assert!(longest <= MAX_PAUSE + Duration::from_millis(1) && looks.len() < 30, "{looks:?}");
    }

    #[test]
    fn a_long_poll_above_the_limit_does_not_begin_until_another_ended() {
        let long_polls = long_polls(1);
        let first = long_polls.begin(MAX_TIME);
        assert!(first.is_some() && long_polls.begin(MAX_TIME).is_none());
        drop(first);
        assert!(long_polls.begin(MAX_TIME).is_some());
    }
}
