//! The sequence of all events. It depends only on the settings, so that the same seed generates the same events
//! regardless of the speed of the services.

use super::{
    Income, Kind, PAY, PlannedPay, Purpose, Weights,
    pay_days::PayDays,
    rng,
    timeline::{Pace, Slot, Timeline},
};
use rand::{RngExt, seq::IndexedRandom};
use std::{collections::VecDeque, time::Duration};

/// Maximum number of delivered orders that consumption chooses from, and of undelivered orders that are tracked. The
/// delivered ones are a uniform sample, so that an old order is as likely as a new one.
const SAMPLE_SIZE: usize = 10_000;

/// Assumed time per initial registration, in real time. The plan uses one more household after each interval. A service
/// on two cores registers about twice as fast.
const REGISTRATION_INTERVAL: Duration = Duration::from_millis(40);

/// Assumed maximum processing time of an order in the services, in real time, without its waits.
const PROCESSING_TIME: Duration = Duration::from_secs(2);

/// An event of the plan.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct PlannedEvent {
    /// Simulated seconds since the start.
    pub(crate) at: f64,
    /// Its kind, in logs and metrics.
    pub(crate) kind: &'static str,
    /// The number of the event within its kind, from 0.
    pub(crate) number: u64,
    pub(crate) action: Action,
}

/// What the generator does in an event.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Action {
    /// Registers the next household.
    Register,
    /// Places an order.
    Order(PlannedOrder),
    /// Reports that `quantity` units of an earlier order were consumed.
    Consume { order: PlannedOrder, quantity: i64 },
    /// Pays a household.
    Pay(PlannedPay),
    /// Does nothing, because there is no household or delivered order yet.
    Skip,
}

/// An order before its device id and barcode are known.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct PlannedOrder {
    /// The number of the household.
    pub(crate) household: u32,
    /// The index of the household's device, modulo the number of its devices.
    pub(crate) device: u32,
    /// The seed by which the orders service selects the product.
    pub(crate) product_seed: u32,
    pub(crate) quantity: i64,
}

/// The households that register at the start.
#[derive(Debug, Clone, Copy)]
pub(crate) struct InitialHouseholds {
    /// The number of households that exist at the start.
    pub(crate) existing: u32,
    /// The number of households after the initial registrations, at least `existing`.
    pub(crate) goal: u32,
}

/// An infinite sequence of events, see the module.
#[derive(Debug)]
pub(crate) struct Plan {
    seed: u64,
    timeline: Timeline,
    /// The next event of the timeline.
    next_slot: Option<Slot>,
    pay_days: PayDays,
    /// The number of pay days so far.
    pays: u64,
    initial: InitialHouseholds,
    /// Simulated seconds per real second.
    speed: f64,
    /// Simulated seconds after which an order is certainly delivered.
    delivered_after: f64,
    /// The number of registration events so far. The initial registrations are not events.
    registrations: u32,
    /// Undelivered orders, each with its delivery time in simulated seconds.
    undelivered: VecDeque<(f64, PlannedOrder)>,
    /// A uniform sample of all delivered orders.
    delivered: Vec<PlannedOrder>,
    /// The number of all delivered orders.
    delivered_count: u64,
}

impl Plan {
    /// A plan in which the waits of an order sum up to at most `max_wait`, in simulated time.
    pub(crate) fn new(
        seed: u64,
        pace: Pace,
        weights: Weights,
        income: Income,
        initial: InitialHouseholds,
        max_wait: Duration,
        speed: f64,
    ) -> Self {
        let mut timeline = Timeline::new(seed, pace, weights);
        Self {
            seed,
            next_slot: timeline.next(),
            timeline,
            pay_days: PayDays::new(income),
            pays: 0,
            initial,
            speed,
            delivered_after: max_wait.as_secs_f64() + PROCESSING_TIME.as_secs_f64() * speed,
            registrations: 0,
            undelivered: VecDeque::new(),
            delivered: Vec::new(),
            delivered_count: 0,
        }
    }

    /// The next event; `None` if the rate or all weights are 0.
    pub(crate) fn next(&mut self) -> Option<PlannedEvent> {
        let Slot { at, kind, number } = self.next_slot?;
        if let Some(event) = self.plan_pay(at) {
            return Some(event);
        }
        self.next_slot = self.timeline.next();
        let action = match kind {
            Kind::Registration => {
                self.registrations = self.registrations.saturating_add(1);
                Action::Register
            }
            Kind::Order => self.plan_order(at, number),
            Kind::Consumption => self.plan_consumption(at, number),
        };
        Some(PlannedEvent { at, kind: kind.as_str(), number, action })
    }

    /// The next pay day up to the simulated time `until`.
    fn plan_pay(&mut self, until: f64) -> Option<PlannedEvent> {
        let Self { initial, registrations, speed, .. } = *self;
        let households = |at| count_households(initial, registrations, speed, at);
        let (at, pay) = self.pay_days.next_until(until, households)?;
        let number = self.pays;
        self.pays += 1;
        Some(PlannedEvent { at, kind: PAY, number, action: Action::Pay(pay) })
    }

    fn plan_order(&mut self, at: f64, number: u64) -> Action {
        let households = count_households(self.initial, self.registrations, self.speed, at);
        if households == 0 {
            return Action::Skip;
        }
        let mut rng = rng(self.seed, Purpose::Order, [number, 0]);
        let order = PlannedOrder {
            household: rng.random_range(0..households),
            device: rng.random(),
            product_seed: rng.random(),
            quantity: rng.random_range(3..=10),
        };
        if self.undelivered.len() < SAMPLE_SIZE {
            self.undelivered.push_back((at + self.delivered_after, order));
        }
        Action::Order(order)
    }

    fn plan_consumption(&mut self, at: f64, number: u64) -> Action {
        while let Some((_, order)) = self.undelivered.pop_front_if(|(delivered_at, _)| *delivered_at <= at) {
            self.add_to_sample(order);
        }
        let mut rng = rng(self.seed, Purpose::Consumption, [number, 0]);
        match self.delivered.choose(&mut rng) {
            Some(order) => Action::Consume { order: *order, quantity: rng.random_range(1..=3) },
            None => Action::Skip,
        }
    }

    /// Adds a delivered order to the sample, by reservoir sampling: each order is in the sample with equal probability.
    fn add_to_sample(&mut self, order: PlannedOrder) {
        self.delivered_count += 1;
        if self.delivered.len() < SAMPLE_SIZE {
            self.delivered.push(order);
            return;
        }
        let index = rng(self.seed, Purpose::Sample, [self.delivered_count, 0]).random_range(0..self.delivered_count);
        let index = usize::try_from(index).unwrap_or(usize::MAX);
        if let Some(replaced) = self.delivered.get_mut(index) {
            *replaced = order;
        }
    }
}

/// The number of households that can order at the simulated time `at`, after this many registration events.
fn count_households(initial: InitialHouseholds, registrations: u32, speed: f64, at: f64) -> u32 {
    let InitialHouseholds { existing, goal } = initial;
    let elapsed = Duration::try_from_secs_f64(at / speed).unwrap_or(Duration::MAX);
    let registered = u32::try_from(elapsed.as_nanos() / REGISTRATION_INTERVAL.as_nanos()).unwrap_or(u32::MAX);
    let households = existing.saturating_add(registered);
    if households < goal { households } else { goal.saturating_add(registrations) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn plan(seed: u64, initial: InitialHouseholds) -> Plan {
        let weights = Weights::new([(Kind::Registration, 1), (Kind::Order, 9), (Kind::Consumption, 10)]);
        let (pace, interval) = (Pace::Rate(100.0), Duration::from_secs(20));
        let income = Income::new(seed, interval, 1.0, pace, &weights);
        Plan::new(seed, pace, weights, income, initial, Duration::from_secs(10), 1.0)
    }

    fn events(seed: u64, initial: InitialHouseholds, count: usize) -> Vec<PlannedEvent> {
        let mut plan = plan(seed, initial);
        (0..count).filter_map(|_| plan.next()).collect()
    }

    #[test]
    fn the_same_seed_plans_the_same_events() {
        let initial = InitialHouseholds { existing: 0, goal: 50 };
        assert_eq!(events(7, initial, 5000), events(7, initial, 5000));
        assert_ne!(events(7, initial, 5000), events(8, initial, 5000));
    }

    #[test]
    fn only_registered_households_order() {
        let mut registered = 0;
        for PlannedEvent { at, kind, action, .. } in events(7, InitialHouseholds { existing: 0, goal: 50 }, 5000) {
            match action {
                Action::Register => registered += 1,
                Action::Order(order) if order.household < 50 => assert!(f64::from(order.household) < at * 25.0),
                Action::Order(order) => assert!(at >= 2.0 && order.household < 50 + registered),
                Action::Skip => assert!(kind == Kind::Consumption.as_str() || at < 0.05),
                Action::Consume { .. } | Action::Pay(_) => {}
            }
        }
    }

    #[test]
    fn only_products_of_delivered_orders_are_consumed() {
        let events = events(7, InitialHouseholds { existing: 5, goal: 5 }, 5000);
        let mut consumptions = 0;
        for (index, PlannedEvent { at, action, .. }) in events.iter().enumerate() {
            let Action::Consume { order, quantity } = action else { continue };
            let mut earlier = events[..index].iter().filter(|earlier| earlier.action == Action::Order(*order));
            assert!(earlier.next().unwrap().at + 12.0 <= *at && (1..=3).contains(quantity));
            consumptions += 1;
        }
        assert!(consumptions > 1500, "{consumptions}");
    }

    #[test]
    fn each_household_is_paid_once_in_each_interval_after_its_registration() {
        let events = events(7, InitialHouseholds { existing: 30, goal: 30 }, 8000);
        assert!(events.is_sorted_by_key(|event| event.at));
        let pays = events.iter().filter_map(|event| match event.action {
            Action::Pay(pay) => Some((event.at, pay)),
            _ => None,
        });
        let mut paid = HashSet::new();
        for (at, PlannedPay { household, day, .. }) in pays {
            let begin = day as f64 * 20.0;
            assert!((begin..begin + 20.0).contains(&at) && paid.insert((household, day)), "{household} at {at}");
        }
        // Five households register per second.
        let counts = [0, 1, 2].map(|day| paid.iter().filter(|(_, other)| *other == day).count());
        assert!(counts[0] == 30 && counts[1].abs_diff(130) <= 1 && counts[2].abs_diff(230) <= 1, "{counts:?}");
    }

    #[test]
    fn the_sample_of_delivered_orders_is_uniform_in_a_long_plan() {
        let mut plan = plan(7, InitialHouseholds { existing: 5, goal: 5 });
        let mut ordered = Vec::new();
        while plan.delivered_count < 2 * SAMPLE_SIZE as u64 {
            if let Some(PlannedEvent { action: Action::Order(order), .. }) = plan.next() {
                ordered.push(order);
            }
        }
        let first_half = &ordered[..SAMPLE_SIZE];
        let sampled = first_half.iter().filter(|order| plan.delivered.contains(order)).count();
        assert!((SAMPLE_SIZE * 45 / 100..SAMPLE_SIZE * 55 / 100).contains(&sampled), "{sampled}");
        assert!(plan.delivered.len() == SAMPLE_SIZE && plan.undelivered.len() <= SAMPLE_SIZE);
    }
}
