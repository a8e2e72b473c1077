//! Periodic work with a fixed interval.

use super::Tasks;
use std::time::Duration;
use tokio::time::{Interval, MissedTickBehavior, interval};

/// The ticks of a task that repeats its work. A slow run delays the next tick: missed ticks are not made up for.
#[derive(Debug)]
pub struct Every {
    interval: Interval,
    tasks: Tasks,
}

impl Tasks {
    /// A tick now and after each `period`, until the shutdown.
    pub fn every(&self, period: Duration) -> Every {
        let mut interval = interval(period);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Every { interval, tasks: self.clone() }
    }
}

impl Every {
    /// Waits for the next tick. Returns false when the shutdown starts.
    pub async fn tick(&mut self) -> bool {
        tokio::select! {
            biased;
            () = self.tasks.stopping() => false,
            _ = self.interval.tick() => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::{Instant, sleep};

    #[tokio::test(start_paused = true)]
    async fn a_slow_run_delays_the_next_tick_and_the_shutdown_ends_them() {
        let (tasks, started) = (Tasks::new("test"), Instant::now());
        let mut every = tasks.every(Duration::from_secs(1));
        let mut ticks = Vec::new();
        for work in [0, 5, 0] {
            assert!(every.tick().await);
            ticks.push(started.elapsed().as_secs());
            sleep(Duration::from_secs(work)).await;
        }
        assert_eq!(ticks, [0, 1, 6]);
        tasks.stop();
        assert!(!every.tick().await);
    }
}
