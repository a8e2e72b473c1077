//! A product on a shelf, with its deliveries and consumption.

use chrono::{DateTime, Utc};
use off_events::{Barcode, Quantity, SsdId, StockLow};

/// A product on a device's shelf. Its quantity is always the deliveries minus the consumption.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ShelfItem {
    pub(crate) ssd_id: SsdId,
    pub(crate) barcode: Barcode,
    /// Units on the shelf; never negative.
    pub(crate) quantity: i32,
    pub(crate) reorder_point: i32,
    /// Whether its person wants no more of it: then it is never low.
    pub(crate) is_paused: bool,
    /// Since when the product is low; `None` while it is not.
    pub(crate) low_since: Option<DateTime<Utc>>,
}

/// A product on a device's shelf, with its name in the catalog.
#[derive(Debug)]
pub(crate) struct NamedShelfItem {
    pub(crate) name: String,
    pub(crate) item: ShelfItem,
}

/// The result of taking units off a shelf.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Take {
    /// Units that were taken; fewer than requested if the shelf did not have enough.
    pub(crate) taken: i32,
    /// The event to publish if the product has just become low.
    pub(crate) low: Option<StockLow>,
}

impl ShelfItem {
    /// The reorder point of a product that is new on a shelf.
    pub(crate) const REORDER_POINT: i32 = 2;
    /// So many products a person may put on a shelf. More can only be delivered.
    pub(crate) const MAX_ON_SHELF: i64 = 200;
    /// The highest reorder point: an order has at most as many units.
    pub(crate) const MAX_REORDER_POINT: i64 = 1000;

    /// Takes up to `quantity` units. Returns an event if the product becomes low by this.
    pub(crate) fn take(&mut self, quantity: Quantity, now: DateTime<Utc>) -> Take {
        let taken = quantity.get().min(self.quantity);
        self.quantity -= taken;
        let was_low = self.low_since.is_some();
        Take { taken, low: if was_low { None } else { self.update_low(now) } }
    }

    /// Adds a delivery. It answers the last `stock.low`, so a product that is still low gets a new event.
    pub(crate) fn put(&mut self, quantity: Quantity, now: DateTime<Utc>) -> Option<StockLow> {
        self.quantity = self.quantity.saturating_add(quantity.get());
        self.low_since = None;
        self.update_low(now)
    }

    /// Changes when the product is reordered. Returns an event if it becomes low by this.
    pub(crate) fn change(&mut self, reorder_point: i32, is_paused: bool, now: DateTime<Utc>) -> Option<StockLow> {
        (self.reorder_point, self.is_paused) = (reorder_point, is_paused);
        if is_paused || self.quantity > reorder_point {
            self.low_since = None;
        }
        if self.low_since.is_some() { None } else { self.update_low(now) }
    }

    /// Only called while `low_since` is `None`: starts a new one if the quantity is at or below the reorder point.
    /// Returns the event if so.
    fn update_low(&mut self, now: DateTime<Utc>) -> Option<StockLow> {
        if !self.is_paused && self.quantity <= self.reorder_point {
            self.low_since = Some(now);
        }
        self.low_event()
    }

    /// The `stock.low` event, if the product is low.
    pub(crate) fn low_event(&self) -> Option<StockLow> {
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

    fn item(quantity: i32) -> ShelfItem {
        let barcode = "2000000000015".parse().unwrap();
        ShelfItem {
            ssd_id: SsdId(1),
            barcode,
            quantity,
            reorder_point: ShelfItem::REORDER_POINT,
            is_paused: false,
            low_since: None,
        }
    }

    fn units(number: i64) -> Quantity {
        Quantity::try_from(number).unwrap()
    }

    #[test]
    fn stock_low_is_published_once_until_a_delivery() {
        let now = DateTime::UNIX_EPOCH;
        let mut item = item(4);
        assert_eq!(item.take(units(1), now).low, None);
        assert_eq!(item.take(units(1), now).low.unwrap().quantity, 2);
        assert_eq!(item.take(units(1), now).low, None);
        assert_eq!(item.put(units(5), now), None);
        assert_eq!(item.take(units(5), now).low.unwrap().quantity, 1);
    }

    #[test]
    fn a_paused_product_is_never_low() {
        let now = DateTime::UNIX_EPOCH;
        let mut item = item(4);
        assert_eq!(item.change(4, true, now), None);
        assert_eq!(item.take(units(4), now).low, None);
        // It is low as soon as it is not paused any more, once.
        assert_eq!(item.change(4, false, now).unwrap().quantity, 0);
        assert_eq!(item.change(4, false, now), None);
        assert_eq!((item.change(4, true, now), item.low_since), (None, None));
    }

    #[test]
    fn another_reorder_point_makes_a_product_low_or_ends_that() {
        let now = DateTime::UNIX_EPOCH;
        let mut item = item(4);
        assert_eq!(item.change(3, false, now), None);
        assert_eq!(item.change(4, false, now).unwrap().reorder_point, 4);
        assert_eq!(item.change(5, false, now), None, "it is low already");
        assert_eq!((item.change(3, false, now), item.low_since), (None, None));
    }

    #[test]
    fn a_delivery_that_is_too_small_publishes_stock_low_again() {
        let mut item = item(0);
        item.low_since = Some(DateTime::UNIX_EPOCH);
        assert_eq!(item.put(units(1), DateTime::UNIX_EPOCH).unwrap().quantity, 1);
    }

    proptest! {
        #[test]
        fn the_quantity_is_the_deliveries_minus_the_consumption(steps in proptest::collection::vec((any::<bool>(), 1i64..20), 0..60)) {
            let mut item = item(0);
            let (mut delivered, mut taken, mut published) = (0, 0, false);
            for (is_delivery, number) in steps {
                let low = if is_delivery {
                    delivered += units(number).get();
                    published = false;
                    item.put(units(number), DateTime::UNIX_EPOCH)
                } else {
                    let take = item.take(units(number), DateTime::UNIX_EPOCH);
                    taken += take.taken;
                    take.low
                };
                prop_assert_eq!(item.quantity, delivered - taken);
                prop_assert!(item.quantity >= 0);
                prop_assert!(!(published && low.is_some()), "published twice without a delivery in between");
                published |= low.is_some();
                prop_assert_eq!(published, item.low_since.is_some());
                prop_assert!(item.quantity > item.reorder_point || published);
            }
        }
    }
}
