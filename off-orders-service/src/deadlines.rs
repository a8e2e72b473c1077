//! Deadlines: the time limits of each status, which add up from when an order was placed.

use off_events::OrderStatus;
use off_kit::Clock;
use std::time::Duration;

/// The time that a step may take in addition to its wait, to deliver and handle the messages. It is also the whole
/// limit for the last step, from `completed` to the shelf, which has no wait.
const HANDLING_TIME: Duration = Duration::from_secs(10);

/// The time limit of each status, in real time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TimeLimits {
    supplier: Duration,
    delivery: Duration,
    handling: Duration,
}

impl TimeLimits {
    /// The limits if a supplier and a delivery take at most this long, in simulated time.
    pub(crate) fn new(clock: &Clock, supplier: Duration, delivery: Duration) -> Self {
        let (supplier, delivery) = (clock.real_wait(supplier), clock.real_wait(delivery));
        Self { supplier, delivery, handling: clock.shortened(HANDLING_TIME) }
    }

    /// The share of `status` in the time limits; for `completed`, until the units of the order are on the shelf.
    pub(crate) fn of(self, status: OrderStatus) -> Duration {
        match status {
            OrderStatus::Pending => self.supplier + self.handling,
            OrderStatus::Shipped => self.delivery + self.handling,
            OrderStatus::Completed => self.handling,
        }
    }

    /// The maximum time from placing an order until it leaves `status`, if it is never late.
    pub(crate) fn since_placed(self, status: OrderStatus) -> Duration {
        OrderStatus::ALL.into_iter().filter(|&passed| passed <= status).map(|passed| self.of(passed)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_limits_since_placement_are_cumulative() {
        let limits = TimeLimits::new(&Clock::real(1.0), Duration::from_secs(4), Duration::from_secs(2));
        let seconds = OrderStatus::ALL.map(|status| limits.since_placed(status).as_secs());
        assert_eq!(seconds, [14, 26, 36]);
    }
}
