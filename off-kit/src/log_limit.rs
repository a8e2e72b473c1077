//! A rate limit for log lines that could repeat thousands of times per second. Suppressed lines are counted.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// Maximum number of lines per [`PERIOD`].
const MAX_LINES: u32 = 10;

const PERIOD: Duration = Duration::from_secs(10);

/// Admits at most 10 lines per 10 s.
#[derive(Debug, Default)]
pub struct LogLimit(Mutex<Option<Period>>);

#[derive(Debug)]
struct Period {
    started: Instant,
    admitted: u32,
    suppressed: u64,
}

impl LogLimit {
    /// `Some` if a line may be logged now, with the number of lines suppressed before it; `None` if it must be
    /// suppressed.
    pub fn admit(&self) -> Option<u64> {
        let mut current = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let period = current.get_or_insert_with(|| Period { started: Instant::now(), admitted: 0, suppressed: 0 });
        if period.started.elapsed() >= PERIOD {
            (period.started, period.admitted) = (Instant::now(), 0);
        }
        if period.admitted == MAX_LINES {
            period.suppressed += 1;
            return None;
        }
        period.admitted += 1;
        Some(std::mem::take(&mut period.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn lines_above_the_limit_are_counted_and_reported_later() {
        let limit = LogLimit::default();
        let admitted = (0..100).filter(|_| limit.admit() == Some(0)).count();
        assert_eq!((admitted, limit.admit()), (10, None));
        tokio::time::advance(PERIOD).await;
        assert_eq!(limit.admit(), Some(91));
        assert_eq!(limit.admit(), Some(0));
    }
}
