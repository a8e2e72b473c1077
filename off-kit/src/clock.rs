//! One clock for every wait and every time of day, so that a simulation can hurry.

use chrono::{DateTime, TimeDelta, Utc};
use std::time::Duration;

/// Tells the time and waits. Times of day are real; only waits are shortened by the speed, so that what is written
/// down stays true whatever the speed of the next run.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    /// Simulated seconds in a real one.
    speed: f64,
    /// How far it is ahead of the machine's.
    ahead: TimeDelta,
}

impl Clock {
    /// The real clock, with waits shortened by `speed` (1 is life's own pace).
    pub fn real(speed: f64) -> Self {
        Self { speed, ahead: TimeDelta::zero() }
    }

    /// The real clock, set wrong by `ahead`.
    #[must_use]
    pub fn set_ahead(self, ahead: TimeDelta) -> Self {
        Self { ahead, ..self }
    }

    /// Simulated seconds in a real one.
    pub fn speed(&self) -> f64 {
        self.speed
    }

    /// The time of day, to the microsecond: what Postgres keeps.
    #[expect(clippy::disallowed_methods, reason = "this is the clock that everything else asks")]
    pub fn now(&self) -> DateTime<Utc> {
        let now = Utc::now() + self.ahead;
        DateTime::from_timestamp_micros(now.timestamp_micros()).unwrap_or(now)
    }

    /// How long a wait of the simulated world takes in the real one.
    pub fn real_wait(&self, simulated: Duration) -> Duration {
        simulated.div_f64(self.speed)
    }

    /// Waits for a while of the simulated world.
    pub async fn sleep(&self, simulated: Duration) {
        tokio::time::sleep(self.real_wait(simulated)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speed_shortens_waits() {
        assert_eq!(Clock::real(60.0).real_wait(Duration::from_mins(2)), Duration::from_secs(2));
    }
}
