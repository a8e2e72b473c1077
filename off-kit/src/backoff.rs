//! How long to wait before trying again.

use rand::RngExt;
use std::time::Duration;

/// Doubling pauses with jitter, up to a longest one. Made anew for each thing that is tried.
#[derive(Debug, Clone)]
pub struct Backoff {
    next: Duration,
    longest: Duration,
}

impl Backoff {
    /// Starts at `first` and doubles up to `longest`.
    pub fn new(first: Duration, longest: Duration) -> Self {
        Self { next: first, longest }
    }

    /// The next pause: between half of it and the whole, so that many who wait do not come back at once.
    pub fn pause(&mut self) -> Duration {
        let pause = self.next;
        self.next = (self.next * 2).min(self.longest);
        pause.mul_f64(rand::rng().random_range(0.5..=1.0))
    }
}

impl Default for Backoff {
    /// 100 ms up to 5 s: for a database or a broker that is away.
    fn default() -> Self {
        Self::new(Duration::from_millis(100), Duration::from_secs(5))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_millis(300));
        for whole in [100, 200, 300, 300] {
            let pause = backoff.pause().as_millis();
            assert!((whole / 2..=whole).contains(&pause), "{pause} ms is not between half of {whole} ms and the whole");
        }
    }
}
