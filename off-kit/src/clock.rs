//! The clock for all times and simulated waits, so that a simulation can run faster than real time.

use chrono::{DateTime, TimeDelta, Utc};
use std::time::Duration;

/// Tells the time and waits. Times are real; the speed shortens only waits, so that stored times stay valid at another
/// speed.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    /// Simulated seconds per real second.
    speed: f64,
    /// How far this clock is ahead of the system clock.
    ahead: TimeDelta,
}

impl Clock {
    /// The system clock, with waits shortened by the factor `speed` (1 is real time).
    pub fn real(speed: f64) -> Self {
        Self { speed, ahead: TimeDelta::zero() }
    }

    /// The same clock, ahead of the system clock by `ahead`. For tests of clock skew.
    #[must_use]
    pub fn set_ahead(self, ahead: TimeDelta) -> Self {
        Self { ahead, ..self }
    }

    /// Simulated seconds per real second.
    pub fn speed(&self) -> f64 {
        self.speed
    }

    /// The current time with microsecond precision, the precision of Postgres.
    #[expect(clippy::disallowed_methods, reason = "all other code uses this clock")]
    pub fn now(&self) -> DateTime<Utc> {
        let now = Utc::now() + self.ahead;
        DateTime::from_timestamp_micros(now.timestamp_micros()).unwrap_or(now)
    }

    /// The real duration of a simulated wait.
    pub fn real_wait(&self, simulated: Duration) -> Duration {
        simulated.div_f64(self.speed)
    }

    /// Waits for a simulated duration.
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
