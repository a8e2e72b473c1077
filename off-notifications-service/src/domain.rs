//! How long suppliers and delivery firms take.

use off_events::{OrderId, OrderStatus};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::time::Duration;

/// A time between a shortest and a longest one, any as likely as the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Delay {
    pub(crate) shortest: Duration,
    pub(crate) longest: Duration,
}

impl Delay {
    /// How long `order` waits for `next`. Asked again, it is the same: a wait that is set twice stays one wait.
    pub(crate) fn of(self, order: OrderId, next: OrderStatus, seed: u64) -> Duration {
        let mut bytes = [0; 32];
        bytes[..16].copy_from_slice(order.0.as_bytes());
        bytes[16..24].copy_from_slice(&seed.to_le_bytes());
        bytes[24] = next as u8;
        ChaCha8Rng::from_seed(bytes).random_range(self.shortest..=self.longest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use uuid::Uuid;

    proptest! {
        #[test]
        fn a_wait_is_within_its_limits_and_always_the_same(id in any::<u128>(), seed in any::<u64>(), shortest in 0u64..100, more in 0u64..100) {
            let delay = Delay { shortest: Duration::from_secs(shortest), longest: Duration::from_secs(shortest + more) };
            let order = OrderId(Uuid::from_u128(id));
            let wait = delay.of(order, OrderStatus::Shipped, seed);
            prop_assert!(delay.shortest <= wait && wait <= delay.longest);
            prop_assert_eq!(wait, delay.of(order, OrderStatus::Shipped, seed));
        }
    }

    #[test]
    fn waits_are_spread_over_the_whole_range() {
        let delay = Delay { shortest: Duration::from_mins(1), longest: Duration::from_mins(4) };
        let waits: Vec<u64> =
            (0..1000).map(|id| delay.of(OrderId(Uuid::from_u128(id)), OrderStatus::Shipped, 7).as_secs()).collect();
        for start in (60..240).step_by(30) {
            let share = waits.iter().filter(|wait| (start..start + 30).contains(*wait)).count();
            assert!((110..230).contains(&share), "{share} of 1000 waits take {start} to {} s", start + 30);
        }
    }
}
