//! A product on a shelf, and what happens to it.

use chrono::{DateTime, Utc};
use off_events::{Barcode, Quantity, SsdId, StockLow};

/// How a product stands on a device's shelf. Always what was delivered less what was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shelf {
    pub(crate) ssd_id: SsdId,
    pub(crate) barcode: Barcode,
    /// Units on it; never below zero.
    pub(crate) quantity: i32,
    pub(crate) reorder_point: i32,
    /// Since when the product is known to be low; `None` while there is enough.
    pub(crate) low_since: Option<DateTime<Utc>>,
}

/// What came of taking something off a shelf.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Take {
    /// How much the shelf had of what was asked for.
    pub(crate) taken: i32,
    /// Said when the product has just become low.
    pub(crate) low: Option<StockLow>,
}

impl Shelf {
    /// The reorder point of a product that is new on a shelf.
    pub(crate) const REORDER_POINT: i32 = 2;

    /// Takes up to `quantity` units; the first time the shelf gets low by it, it says so.
    pub(crate) fn take(&mut self, quantity: Quantity, now: DateTime<Utc>) -> Take {
        let taken = quantity.get().min(self.quantity);
        self.quantity -= taken;
        let was_low = self.low_since.is_some();
        Take { taken, low: if was_low { None } else { self.look(now) } }
    }

    /// Puts a delivery on the shelf. Whoever waited for it has it now; if that is still too little, it is said anew.
    pub(crate) fn put(&mut self, quantity: Quantity, now: DateTime<Utc>) -> Option<StockLow> {
        self.quantity = self.quantity.saturating_add(quantity.get());
        self.low_since = None;
        self.look(now)
    }

    fn look(&mut self, now: DateTime<Utc>) -> Option<StockLow> {
        if self.quantity <= self.reorder_point {
            self.low_since = Some(now);
        }
        self.low()
    }

    /// What there is to say of it while it is low.
    pub(crate) fn low(&self) -> Option<StockLow> {
        self.low_since.map(|since| StockLow {
            ssd_id: self.ssd_id,
            barcode: self.barcode.clone(),
            quantity: self.quantity,
            reorder_point: self.reorder_point,
            timestamp: since,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shelf(quantity: i32) -> Shelf {
        let barcode = "2000000000015".parse().unwrap();
        Shelf { ssd_id: SsdId(1), barcode, quantity, reorder_point: Shelf::REORDER_POINT, low_since: None }
    }

    fn units(number: i64) -> Quantity {
        Quantity::try_from(number).unwrap()
    }

    #[test]
    fn low_is_said_once_until_a_delivery() {
        let now = DateTime::UNIX_EPOCH;
        let mut shelf = shelf(4);
        assert_eq!(shelf.take(units(1), now).low, None);
        assert_eq!(shelf.take(units(1), now).low.unwrap().quantity, 2);
        assert_eq!(shelf.take(units(1), now).low, None);
        assert_eq!(shelf.put(units(5), now), None);
        assert_eq!(shelf.take(units(5), now).low.unwrap().quantity, 1);
    }

    #[test]
    fn a_delivery_that_is_too_small_is_low_again() {
        let mut shelf = shelf(0);
        shelf.low_since = Some(DateTime::UNIX_EPOCH);
        assert_eq!(shelf.put(units(1), DateTime::UNIX_EPOCH).unwrap().quantity, 1);
    }

    proptest! {
        #[test]
        fn a_shelf_is_deliveries_less_what_was_taken(steps in proptest::collection::vec((any::<bool>(), 1i64..20), 0..60)) {
            let mut shelf = shelf(0);
            let (mut delivered, mut taken, mut said) = (0, 0, false);
            for (is_delivery, number) in steps {
                let low = if is_delivery {
                    delivered += units(number).get();
                    said = false;
                    shelf.put(units(number), DateTime::UNIX_EPOCH)
                } else {
                    let take = shelf.take(units(number), DateTime::UNIX_EPOCH);
                    taken += take.taken;
                    take.low
                };
                prop_assert_eq!(shelf.quantity, delivered - taken);
                prop_assert!(shelf.quantity >= 0);
                prop_assert!(!(said && low.is_some()), "said twice without a delivery in between");
                said |= low.is_some();
                prop_assert_eq!(said, shelf.low_since.is_some());
                prop_assert!(shelf.quantity > shelf.reorder_point || said);
            }
        }
    }
}
