//! Logging at a bounded rate: what repeats a thousand times a second is counted, and shown now and then.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// The most lines in a period.
const MOST: u32 = 10;

const PERIOD: Duration = Duration::from_secs(10);

/// Lets at most ten lines through in ten seconds.
#[derive(Debug, Default)]
pub struct LogLimit(Mutex<Option<Period>>);

#[derive(Debug)]
struct Period {
    began: Instant,
    shown: u32,
    suppressed: u64,
}

impl LogLimit {
    /// How many lines were suppressed before this one, where it may be shown; `None` where it may not.
    pub fn admit(&self) -> Option<u64> {
        let mut current = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let period = current.get_or_insert_with(|| Period { began: Instant::now(), shown: 0, suppressed: 0 });
        if period.began.elapsed() >= PERIOD {
            (period.began, period.shown) = (Instant::now(), 0);
        }
        if period.shown == MOST {
            period.suppressed += 1;
            return None;
        }
        period.shown += 1;
        Some(std::mem::take(&mut period.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_too_much_is_counted_and_told_later() {
        let limit = LogLimit::default();
        let admitted = (0..100).filter(|_| limit.admit() == Some(0)).count();
        assert_eq!((admitted, limit.admit()), (10, None));
        tokio::time::advance(PERIOD).await;
        assert_eq!(limit.admit(), Some(91));
        assert_eq!(limit.admit(), Some(0));
    }
}
