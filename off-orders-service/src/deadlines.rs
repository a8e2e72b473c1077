//! By when each step of an order must have happened.

use off_events::OrderStatus;
use std::time::Duration;

/// What a step may take beyond its own wait: carrying and handling the messages. Also the whole of the last step, from
/// `completed` to the shelf.
const SLACK: Duration = Duration::from_secs(10);

/// How long an order may stay in each state before it is overdue, in real time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TimeLimits {
    supplier: Duration,
    delivery: Duration,
}

impl TimeLimits {
    /// The limits where a supplier and a delivery take at most this long, in real time.
    pub(crate) fn new(supplier: Duration, delivery: Duration) -> Self {
        Self { supplier, delivery }
    }

    /// How long an order may stay in `status`; completed, until it is on its shelf.
    pub(crate) fn of(self, status: OrderStatus) -> Duration {
        match status {
            OrderStatus::Pending => self.supplier + SLACK,
            OrderStatus::Shipped => self.delivery + SLACK,
            OrderStatus::Completed => SLACK,
        }
    }

    /// How long after it was placed an order that was never late has left `status`.
    pub(crate) fn since_placed(self, status: OrderStatus) -> Duration {
        OrderStatus::ALL.into_iter().filter(|&passed| passed <= status).map(|passed| self.of(passed)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_add_up_along_the_way() {
        let limits = TimeLimits::new(Duration::from_secs(4), Duration::from_secs(2));
        let seconds = OrderStatus::ALL.map(|status| limits.since_placed(status).as_secs());
        assert_eq!(seconds, [14, 26, 36]);
    }
}
