//! The clock for all times, simulated waits and timeouts, so that a simulation can run faster than real time, and tests
//! need not wait.

use chrono::{DateTime, TimeDelta, Utc};
use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::Duration,
};

/// Tells the time and waits. Times are real; the speed shortens only waits, so that stored times stay valid at another
/// speed.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    /// Simulated seconds per real second.
    speed: f64,
    /// How far this clock is ahead of the system clock, in microseconds.
    ahead: &'static AtomicI64,
    /// Divides timeouts and intervals; 1 except in tests.
    shortened_by: u32,
}

/// The clock that no test moves.
static SYSTEM: AtomicI64 = AtomicI64::new(0);

/// Moves a clock. For tests.
#[derive(Debug)]
pub struct ClockMover(&'static AtomicI64);

impl ClockMover {
    /// Moves the clock by `time`: forward, or back if it is negative.
    pub fn move_by(&self, time: TimeDelta) {
        self.0.fetch_add(time.num_microseconds().unwrap_or_default(), Ordering::Relaxed);
    }
}

impl Clock {
    /// The system clock, with waits shortened by the factor `speed` (1 is real time).
    pub fn real(speed: f64) -> Self {
        Self { speed, ahead: &SYSTEM, shortened_by: 1 }
    }

    /// A clock that starts at the system time and can be moved. For tests: each call leaks a few bytes.
    pub fn movable(speed: f64) -> (Self, ClockMover) {
        let ahead = Box::leak(Box::default());
        (Self { ahead, ..Self::real(speed) }, ClockMover(ahead))
    }

    /// The same clock with all timeouts and intervals divided by `divisor`. For tests, which would wait for them.
    #[must_use]
    pub fn with_short_timeouts(self, divisor: u32) -> Self {
        Self { shortened_by: divisor, ..self }
    }

    /// Simulated seconds per real second.
    pub fn speed(&self) -> f64 {
        self.speed
    }

    /// The current time with microsecond precision, the precision of Postgres.
    #[expect(clippy::disallowed_methods, reason = "all other code uses this clock")]
    pub fn now(&self) -> DateTime<Utc> {
        let now = Utc::now() + TimeDelta::microseconds(self.ahead.load(Ordering::Relaxed));
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

    /// The duration of a timeout or an interval, which is not simulated: `duration` itself, or less in a test.
    pub fn shortened(&self, duration: Duration) -> Duration {
        duration / self.shortened_by
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speed_shortens_waits() {
        assert_eq!(Clock::real(60.0).real_wait(Duration::from_mins(2)), Duration::from_secs(2));
    }

    #[test]
    fn a_moved_clock_leaves_the_others_alone() {
        let (clock, mover) = Clock::movable(1.0);
        mover.move_by(TimeDelta::days(1));
        assert!(clock.now() - Clock::real(1.0).now() > TimeDelta::hours(23));
    }
}
