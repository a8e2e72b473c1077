//! Which orders an account can pay.

use off_events::{Money, OrderId, UserId};
use std::collections::HashMap;

/// An order to be paid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Charge {
    pub(crate) order: OrderId,
    pub(crate) user: UserId,
    pub(crate) amount: Money,
}

/// Whether an order was paid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Paid,
    /// This much money was missing.
    Refused(Money),
}

/// Charges the orders in their order, each if the balance of its person allows it: a refused dear order does not keep a
/// later cheap one from being paid. An order that `is_refused` counts as if nothing were in the account. Updates `balances`.
pub(crate) fn settle(
    balances: &mut HashMap<UserId, Money>,
    charges: &[Charge],
    is_refused: impl Fn(OrderId) -> bool,
) -> Vec<Outcome> {
    let settle_one = |charge: &Charge| {
        if is_refused(charge.order) {
            return Outcome::Refused(charge.amount);
        }
        let balance = balances.entry(charge.user).or_default();
        match balance.checked_sub(charge.amount) {
            Some(rest) => {
                *balance = rest;
                Outcome::Paid
            }
            None => Outcome::Refused(charge.amount.checked_sub(*balance).unwrap_or_default()),
        }
    };
    charges.iter().map(settle_one).collect()
}

/// A balance below this is low.
pub(crate) const LOW_BALANCE: Money = Money::from_euros(20);

/// The paid charges that took a balance below [`LOW_BALANCE`]. `balances` are those before the charges.
pub(crate) fn charges_to_low_balance(
    mut balances: HashMap<UserId, Money>,
    charges: &[Charge],
    outcomes: &[Outcome],
) -> Vec<Charge> {
    let paid = charges.iter().zip(outcomes).filter(|(_, outcome)| **outcome == Outcome::Paid);
    let reaches_low = |charge: &&Charge| {
        let balance = balances.entry(charge.user).or_default();
        let was_low = *balance < LOW_BALANCE;
        *balance = balance.checked_sub(charge.amount).unwrap_or_default();
        !was_low && *balance < LOW_BALANCE
    };
    paid.map(|(charge, _)| charge).filter(reaches_low).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use uuid::Uuid;

    fn money(cents: i64) -> Money {
        Money::from_cents(cents).unwrap()
    }

    fn charge(user: i64, cents: i64) -> Charge {
        Charge { order: OrderId(Uuid::nil()), user: UserId(user), amount: money(cents) }
    }

    #[test]
    fn a_balance_becomes_low_once() {
        let before = HashMap::from([(UserId(1), money(3000)), (UserId(2), money(1999))]);
        let charges = [charge(1, 900), charge(1, 9000), charge(1, 200), charge(1, 100), charge(2, 100)];
        let outcomes = settle(&mut before.clone(), &charges, |_| false);
        assert_eq!(charges_to_low_balance(before, &charges, &outcomes), [charges[2]]);
    }

    #[test]
    fn a_refused_dear_order_does_not_keep_a_later_cheap_one_from_being_paid() {
        let mut balances = HashMap::from([(UserId(1), money(1000))]);
        let outcomes =
            settle(&mut balances, &[charge(1, 600), charge(1, 900), charge(1, 400), charge(2, 1)], |_| false);
        let expected = [Outcome::Paid, Outcome::Refused(money(500)), Outcome::Paid, Outcome::Refused(money(1))];
        assert_eq!(outcomes, expected);
        assert_eq!(balances[&UserId(1)], Money::ZERO);
    }

    proptest! {
        #[test]
        fn charges_equal_a_run_of_each_account_alone(
            start in proptest::collection::vec(0_i64..5000, 4),
            orders in proptest::collection::vec((0_i64..4, 1_i64..2000), 0..60),
        ) {
            let mut balances: HashMap<_, _> = (0..4).zip(&start).map(|(user, cents)| (UserId(user), money(*cents))).collect();
            let charges: Vec<Charge> = orders.iter().map(|&(user, cents)| charge(user, cents)).collect();
            let outcomes = settle(&mut balances, &charges, |_| false);
            for (user, balance) in (0..4).zip(start) {
                let mut rest = balance;
                for (charge, outcome) in charges.iter().zip(&outcomes).filter(|(charge, _)| charge.user == UserId(user)) {
                    let cents = charge.amount.cents();
                    let expected = if cents <= rest { Outcome::Paid } else { Outcome::Refused(money(cents - rest)) };
                    prop_assert_eq!(*outcome, expected);
                    rest -= if cents <= rest { cents } else { 0 };
                }
                prop_assert_eq!(balances[&UserId(user)].cents(), rest);
            }
        }
    }
}
