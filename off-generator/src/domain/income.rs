//! What households get and spend: kinds of households, their welcome deposits and their pay.
//!
//! All amounts follow from what a household is expected to spend, so that at any rate of events some orders are
//! refused, and no household stays without money.

use super::{Kind, Pace, Purpose, Weights, rng};
use off_events::Money;
use rand::{RngExt, seq::IndexedRandom};
use std::time::Duration;

/// A kind of household.
#[derive(Debug)]
struct HouseholdKind {
    /// Its share of all households, in percent.
    share: u32,
    /// Its welcome deposit: the spending of so many pay intervals.
    welcome: f64,
    /// How much of its expected spending its pay covers.
    pay: f64,
}

/// Students, retired people, singles, couples and families.
const HOUSEHOLD_KINDS: [HouseholdKind; 5] = [
    HouseholdKind { share: 15, welcome: 1.5, pay: 0.6 },
    HouseholdKind { share: 20, welcome: 2.5, pay: 0.9 },
    HouseholdKind { share: 25, welcome: 2.5, pay: 1.0 },
    HouseholdKind { share: 20, welcome: 2.5, pay: 1.2 },
    HouseholdKind { share: 20, welcome: 2.5, pay: 1.1 },
];

/// The expected price of an order, in cents.
const ORDER_CENTS: f64 = 1500.0;

/// Expected orders for each planned one: the planned one, and one of a device that is low.
const ORDERS_PER_PLANNED: f64 = 2.0;

/// The lowest welcome deposit before `GENERATOR_INCOME`, in cents: at a low rate it pays for the first orders.
const MIN_WELCOME_CENTS: f64 = 3000.0;

/// The largest deposit, in cents: 10,000 EUR.
const MAX_DEPOSIT_CENTS: f64 = 1_000_000.0;

/// What each household gets. It depends only on the settings.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Income {
    seed: u64,
    /// Simulated time between two pay days of a household, in seconds.
    pub(super) interval: f64,
    /// A factor on all deposits.
    factor: f64,
    /// Expected spending of all households in a pay interval, in cents.
    spending: f64,
}

impl Income {
    /// The income of households that together have the events of `pace` and `weights`.
    pub(crate) fn new(seed: u64, interval: Duration, factor: f64, pace: Pace, weights: &Weights) -> Self {
        let orders = pace.events_per_second() * weights.share(Kind::Order) * ORDERS_PER_PLANNED;
        let interval = interval.as_secs_f64();
        Self { seed, interval, factor, spending: orders * interval * ORDER_CENTS }
    }

    /// The welcome deposit of a household, one of `households`; `None` if it gets nothing.
    pub(crate) fn welcome(&self, household: u32, households: u32) -> Option<Money> {
        let spending = self.spending / f64::from(households.max(1));
        deposit((self.kind(household).welcome * spending).max(MIN_WELCOME_CENTS) * self.factor)
    }

    /// The pay of a household, one of `households`, for a pay interval; `None` if it gets nothing.
    pub(super) fn pay(&self, household: u32, households: u32) -> Option<Money> {
        let spending = self.spending / f64::from(households.max(1));
        deposit(self.kind(household).pay * spending * self.factor)
    }

    /// When the household is paid in each interval, as a fraction of the interval.
    pub(super) fn pay_day(&self, household: u32) -> f64 {
        rng(self.seed, Purpose::PayDay, [household.into(), 0]).random()
    }

    fn kind(&self, household: u32) -> &'static HouseholdKind {
        let mut rng = rng(self.seed, Purpose::Income, [household.into(), 0]);
        HOUSEHOLD_KINDS.choose_weighted(&mut rng, |kind| kind.share).unwrap_or(&HOUSEHOLD_KINDS[0])
    }
}

/// The amount of a deposit; `None` below one cent.
#[expect(clippy::cast_possible_truncation, reason = "the cents are whole, and at most MAX_DEPOSIT_CENTS")]
fn deposit(cents: f64) -> Option<Money> {
    let cents = cents.min(MAX_DEPOSIT_CENTS).round() as i64;
    Money::from_cents(cents).ok().filter(|amount| *amount > Money::ZERO)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn income(factor: f64, rate: f64) -> Income {
        let weights = Weights::new([(Kind::Registration, 0), (Kind::Order, 1), (Kind::Consumption, 3)]);
        Income::new(7, Duration::from_hours(1), factor, Pace::Rate(rate), &weights)
    }

    #[test]
    fn the_shares_of_all_kinds_add_up_and_their_pay_is_almost_what_they_spend() {
        assert_eq!(HOUSEHOLD_KINDS.iter().map(|kind| kind.share).sum::<u32>(), 100);
        // 3,600 events in an hour, a quarter of them orders, and as many of devices that are low.
        let (income, spending) = (income(1.0, 1.0), 1800.0 * ORDER_CENTS);
        let pays = (0..1000).filter_map(|household| income.pay(household, 1000));
        let paid = pays.map(Money::cents).sum::<i64>() as f64;
        assert!((0.9..1.0).contains(&(paid / spending)), "{paid} of {spending}");
    }

    #[test]
    fn deposits_are_at_most_ten_thousand_euros_and_none_is_zero() {
        assert_eq!(income(1.0, 100_000.0).pay(1, 1), Money::from_cents(1_000_000).ok());
        assert_eq!(income(1.0, 100_000.0).welcome(1, 1), Money::from_cents(1_000_000).ok());
        for nothing in [income(0.0, 1.0), income(1.0, 0.0)] {
            assert_eq!(nothing.pay(1, 1), None);
        }
        assert_eq!(income(0.0, 1.0).welcome(1, 1), None);
        assert_eq!(income(1.0, 0.0).welcome(1, 1), Money::from_cents(3000).ok());
    }

    #[test]
    fn all_kinds_and_all_times_of_an_interval_occur() {
        let income = income(1.0, 1.0);
        let mut pays: Vec<_> = (0..100).map(|household| income.pay(household, 100)).collect();
        pays.sort_unstable();
        pays.dedup();
        assert_eq!(pays.len(), HOUSEHOLD_KINDS.len());
        let early = (0..1000).filter(|household| income.pay_day(*household) < 0.5).count();
        assert!((450..550).contains(&early), "{early}");
    }
}
