//! The stock of a shelf over time.

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// A period of time in parts of the same length.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Period {
    pub(crate) from: DateTime<Utc>,
    pub(crate) until: DateTime<Utc>,
    pub(crate) parts: u32,
}

/// Units that came and went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) delivered: i64,
    pub(crate) taken: i64,
}

/// The changes of a product by part of the period, counted from 0. A change after the period is in the part after the last.
pub(crate) type Changes = BTreeMap<u32, Change>;

/// A product at the end of a part of a period, and what happened in the part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Level {
    /// The end of the part.
    at: DateTime<Utc>,
    /// Units on the shelf then.
    quantity: i64,
    /// Units that were delivered in the part.
    delivered: i64,
    /// Units that were taken in the part.
    taken: i64,
}

/// The levels in each part of the period, oldest first, of a product of which there are `quantity` units now.
pub(crate) fn levels(period: &Period, quantity: i32, changes: Option<&Changes>) -> Vec<Level> {
    let change = |part: u32| changes.and_then(|changes| changes.get(&part)).copied().unwrap_or_default();
    let after = change(period.parts);
    let mut quantity = i64::from(quantity) - after.delivered + after.taken;
    let length = (period.until - period.from).num_milliseconds();
    let mut levels = Vec::with_capacity(period.parts as usize);
    for part in (0..period.parts).rev() {
        let Change { delivered, taken } = change(part);
        let millis = length * i64::from(part + 1) / i64::from(period.parts.max(1));
        levels.push(Level { at: period.from + TimeDelta::milliseconds(millis), quantity, delivered, taken });
        quantity += taken - delivered;
    }
    levels.reverse();
    levels
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn period(parts: u32) -> Period {
        Period { from: DateTime::UNIX_EPOCH, until: DateTime::UNIX_EPOCH + TimeDelta::seconds(100), parts }
    }

    #[test]
    fn the_level_goes_back_from_the_present() {
        let changes = BTreeMap::from([
            (0, Change { delivered: 5, taken: 0 }),
            (2, Change { delivered: 0, taken: 3 }),
            // The clock of the device is ahead.
            (4, Change { delivered: 0, taken: 1 }),
        ]);
        let levels = levels(&period(4), 1, Some(&changes));
        assert_eq!(levels.iter().map(|level| level.quantity).collect::<Vec<_>>(), [5, 5, 2, 2]);
        assert_eq!(levels[3].at, period(4).until);
        assert_eq!((levels[0].delivered, levels[2].taken), (5, 3));
    }

    proptest! {
        #[test]
        fn each_level_follows_from_the_one_before(quantity in 0..1000, taken in proptest::collection::vec(0..50i64, 1..20)) {
            let changes: Changes = taken.iter().enumerate().map(|(part, taken)| {
                (u32::try_from(part).unwrap(), Change { delivered: 7, taken: *taken })
            }).collect();
            let levels = levels(&period(u32::try_from(taken.len()).unwrap()), quantity, Some(&changes));
            for pair in levels.windows(2) {
                prop_assert_eq!(pair[1].quantity, pair[0].quantity + pair[1].delivered - pair[1].taken);
            }
            prop_assert_eq!(levels.last().unwrap().quantity, i64::from(quantity));
        }
    }
}
