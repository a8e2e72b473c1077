//! One clock for every wait and every time of day, so that a test can move it and a simulation can hurry.

use chrono::{DateTime, TimeDelta, Utc};
use std::{sync::Arc, time::Duration};
use tokio::sync::watch;

/// Tells the time and waits. Times of day are real; only waits are shortened by the speed, so that what is written
/// down stays true whatever the speed of the next run.
#[derive(Debug, Clone)]
pub struct Clock {
    /// Simulated seconds in a real one.
    speed: f64,
    /// A clock that stands still until it is moved; `None` is the real one. Shared by all clones.
    manual: Option<Arc<watch::Sender<DateTime<Utc>>>>,
}

impl Clock {
    /// The real clock, with waits shortened by `speed` (1 is life's own pace).
    pub fn real(speed: f64) -> Self {
        Self { speed, manual: None }
    }

    /// A clock that stands at `start` and is moved by [`Clock::advance`].
    pub fn manual(start: DateTime<Utc>) -> Self {
        Self { speed: 1.0, manual: Some(Arc::new(watch::Sender::new(start))) }
    }

    /// Simulated seconds in a real one.
    pub fn speed(&self) -> f64 {
        self.speed
    }

    /// The time of day, to the microsecond: what Postgres keeps.
    pub fn now(&self) -> DateTime<Utc> {
        let now = match &self.manual {
            Some(time) => *time.borrow(),
            #[expect(clippy::disallowed_methods, reason = "this is the clock that everything else asks")]
            None => Utc::now(),
        };
        DateTime::from_timestamp_micros(now.timestamp_micros()).unwrap_or(now)
    }

    /// How long a wait of the simulated world takes in the real one.
    pub fn real_wait(&self, simulated: Duration) -> Duration {
        simulated.div_f64(self.speed)
    }

    /// Waits for a while of the simulated world.
    pub async fn sleep(&self, simulated: Duration) {
        match &self.manual {
            None => tokio::time::sleep(self.real_wait(simulated)).await,
            Some(time) => {
                let until = *time.borrow() + simulated;
                // The sender lives as long as this clock, so the wait ends only by the time.
                let _ = time.subscribe().wait_for(|now| *now >= until).await;
            }
        }
    }

    /// Moves a manual clock; the real one is left alone.
    pub fn advance(&self, by: TimeDelta) {
        if let Some(time) = &self.manual {
            time.send_modify(|now| *now += by);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_sleeper_on_a_manual_clock_wakes_when_it_is_moved() {
        let clock = Clock::manual(DateTime::UNIX_EPOCH);
        let sleeper = tokio::spawn({
            let clock = clock.clone();
            async move {
                clock.sleep(Duration::from_mins(1)).await;
                clock.now()
            }
        });
        tokio::task::yield_now().await;
        clock.advance(TimeDelta::seconds(59));
        assert!(!sleeper.is_finished());
        clock.advance(TimeDelta::seconds(1));
        assert_eq!(sleeper.await.unwrap(), DateTime::UNIX_EPOCH + TimeDelta::seconds(60));
    }

    #[test]
    fn speed_shortens_waits() {
        assert_eq!(Clock::real(60.0).real_wait(Duration::from_mins(2)), Duration::from_secs(2));
    }
}
