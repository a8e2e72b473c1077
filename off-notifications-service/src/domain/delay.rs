//! The delays of the supplier and the delivery firm.

use off_events::{OrderId, OrderStatus};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::time::Duration;

/// The range of waits: their lengths are uniformly distributed from `min` to `max`, in simulated time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Delay {
    pub(crate) min: Duration,
    pub(crate) max: Duration,
}

impl Delay {
    /// How long `order` waits for the status `next`. It is deterministic, so that a redelivered message schedules the
    /// same wait.
    pub(crate) fn wait(self, order: OrderId, next: OrderStatus, seed: u64) -> Duration {
        let mut bytes = [0; 32];
        bytes[..16].copy_from_slice(order.0.as_bytes());
        bytes[16..24].copy_from_slice(&seed.to_le_bytes());
        bytes[24] = next as u8;
        ChaCha8Rng::from_seed(bytes).random_range(self.min..=self.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use uuid::Uuid;

    proptest! {
        #[test]
        fn a_wait_is_within_its_limits_and_deterministic(id in any::<u128>(), seed in any::<u64>(), min in 0u64..100, range in 0u64..100) {
            let delay = Delay { min: Duration::from_secs(min), max: Duration::from_secs(min + range) };
            let order = OrderId(Uuid::from_u128(id));
            let wait = delay.wait(order, OrderStatus::Shipped, seed);
            prop_assert!(delay.min <= wait && wait <= delay.max);
            prop_assert_eq!(wait, delay.wait(order, OrderStatus::Shipped, seed));
        }
    }

    #[test]
    fn waits_are_uniformly_distributed() {
        let delay = Delay { min: Duration::from_mins(1), max: Duration::from_mins(4) };
        let waits: Vec<u64> =
            (0..1000).map(|id| delay.wait(OrderId(Uuid::from_u128(id)), OrderStatus::Shipped, 7).as_secs()).collect();
        for start in (60..240).step_by(30) {
            let share = waits.iter().filter(|wait| (start..start + 30).contains(*wait)).count();
            assert!((110..230).contains(&share), "{share} of 1000 waits take {start} to {} s", start + 30);
        }
    }
}
