//! When each household is paid.

use super::Income;
use off_events::Money;
use std::collections::VecDeque;

/// The kind of a deposit, in logs and metrics.
pub(crate) const PAY: &str = "pay";

/// A deposit of pay.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct PlannedPay {
    pub(crate) household: u32,
    /// The number of the pay interval since the start.
    pub(crate) day: u64,
    pub(crate) amount: Money,
}

/// The pay days of all households, in the order of their times.
#[derive(Debug)]
pub(super) struct PayDays {
    income: Income,
    /// The number of the next pay interval.
    next_day: u64,
    /// The pay days of the current interval, each with its simulated seconds since the start.
    days: VecDeque<(f64, PlannedPay)>,
}

impl PayDays {
    /// The pay days of a run from its start.
    pub(super) fn new(income: Income) -> Self {
        Self { income, next_day: 0, days: VecDeque::new() }
    }

    /// The next pay day up to the simulated time `until`. `households` is the number of households at a time: those
    /// that exist at the beginning of an interval are paid in it.
    pub(super) fn next_until(&mut self, until: f64, households: impl Fn(f64) -> u32) -> Option<(f64, PlannedPay)> {
        loop {
            if let Some(due) = self.days.pop_front_if(|(at, _)| *at <= until) {
                return Some(due);
            }
            let begin = self.next_day as f64 * self.income.interval;
            if !self.days.is_empty() || begin > until {
                return None;
            }
            self.plan_interval(begin, households(begin));
        }
    }

    fn plan_interval(&mut self, begin: f64, households: u32) {
        let day = self.next_day;
        let pays = (0..households).filter_map(|household| {
            let amount = self.income.pay(household, households)?;
            let at = begin + self.income.pay_day(household) * self.income.interval;
            Some((at, PlannedPay { household, day, amount }))
        });
        let mut days: Vec<_> = pays.collect();
        days.sort_by(|(one, _), (other, _)| one.total_cmp(other));
        self.days = days.into();
        self.next_day += 1;
    }
}
