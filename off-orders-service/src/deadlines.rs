//! Deadlines: the time limits of each status, which add up from when an order was placed.

use off_events::OrderStatus;
use off_kit::Clock;
use std::time::Duration;

/// The time that a step may take in addition to its wait, to deliver and handle the messages. It is also the whole
/// limit of the steps without a wait: the payment, and what follows the end of an order: its shelf, money and letter.
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

    /// The share of `status` in the time limits; for `completed`, until the units of the order are on the shelf, its
    /// money is earned and its letter is written; for `refused` and `cancelled`, until its money is settled and its letter
    /// is written.
    pub(crate) fn of(self, status: OrderStatus) -> Duration {
        match status {
            OrderStatus::Paid => self.supplier + self.handling,
            OrderStatus::Shipped => self.delivery + self.handling,
            OrderStatus::Pending | OrderStatus::Completed | OrderStatus::Refused | OrderStatus::Cancelled => {
                self.handling
            }
        }
    }

    /// The maximum time from placing an order until it leaves `status`, if it is never late. Orders end at any time, so
    /// this is only the share of the status for those that ended.
    pub(crate) fn since_placed(self, status: OrderStatus) -> Duration {
        match status {
            OrderStatus::Pending | OrderStatus::Refused | OrderStatus::Cancelled => self.of(status),
            OrderStatus::Paid => self.since_placed(OrderStatus::Pending) + self.of(status),
            OrderStatus::Shipped => self.since_placed(OrderStatus::Paid) + self.of(status),
            OrderStatus::Completed => self.since_placed(OrderStatus::Shipped) + self.of(status),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_limits_since_placement_are_cumulative() {
        let limits = TimeLimits::new(&Clock::real(1.0), Duration::from_secs(4), Duration::from_secs(2));
        let seconds = OrderStatus::ALL.map(|status| limits.since_placed(status).as_secs());
        assert_eq!(seconds, [10, 24, 36, 46, 10, 10]);
    }
}
