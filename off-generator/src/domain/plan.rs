//! Everything that happens, in order. It follows from the settings alone, so that the same seed brings the same events however
//! fast the services answer.

use super::{
    Kind, Purpose, Weights, rng,
    timeline::{Pace, Slot, Timeline},
};
use rand::{RngExt, seq::IndexedRandom};
use std::{collections::VecDeque, time::Duration};

/// Delivered orders that are remembered to be eaten from, and orders that are remembered until they are delivered. Those
/// remembered are drawn among all, so that an old order is as likely as a new one.
const MEMORY: usize = 10_000;

/// After each of these, in real time, one more of the households that register at the start takes part. A service on two cores
/// registers about twice as many.
const SETTLE_EVERY: Duration = Duration::from_millis(40);

/// How long, in real time, an order is given to travel through the services beside its waits.
const TRAVEL_TIME: Duration = Duration::from_secs(2);

/// An event and what happens in it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Planned {
    /// Seconds of the simulated world since the start.
    pub(crate) at: f64,
    /// Which of its kind it is, from 0.
    pub(crate) number: u64,
    pub(crate) event: Event,
}

/// What happens.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Event {
    /// The next household registers.
    Registration,
    Order(PlannedOrder),
    /// So many units of what an earlier order brought are eaten.
    Consumption(PlannedOrder, i64),
    /// An event of that kind for which there is nobody or nothing yet.
    Nothing(Kind),
}

/// An order, before its device and its product are known by their ids.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct PlannedOrder {
    /// The number of the household.
    pub(crate) household: u32,
    /// Which of its devices, counted on from the last to the first again.
    pub(crate) device: u32,
    pub(crate) product_seed: u32,
    pub(crate) quantity: i64,
}

/// The households that register at the start.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settling {
    /// Those that were there already.
    pub(crate) known: u32,
    /// Those that there shall be.
    pub(crate) goal: u32,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Plan {
    seed: u64,
    timeline: Timeline,
    settling: Settling,
    /// Simulated seconds in a real one.
    speed: f64,
    /// Simulated seconds after which an order is certainly delivered.
    delivered_after: f64,
    /// Households that registered since the start, beside those that settle.
    registered: u32,
    on_the_way: VecDeque<(f64, PlannedOrder)>,
    /// Of all orders that were delivered, some.
    delivered: Vec<PlannedOrder>,
    /// All orders that were delivered.
    delivered_count: u64,
}

impl Plan {
    /// A plan in which an order waits for at most `longest_wait` in the simulated world until it is delivered.
    pub(crate) fn new(
        seed: u64,
        pace: Pace,
        weights: Weights,
        settling: Settling,
        longest_wait: Duration,
        speed: f64,
    ) -> Self {
        Self {
            seed,
            timeline: Timeline::new(seed, pace, weights),
            settling,
            speed,
            delivered_after: longest_wait.as_secs_f64() + TRAVEL_TIME.as_secs_f64() * speed,
            registered: 0,
            on_the_way: VecDeque::new(),
            delivered: Vec::new(),
            delivered_count: 0,
        }
    }

    /// The next event; `None` when nothing ever happens.
    pub(crate) fn next(&mut self) -> Option<Planned> {
        let Slot { at, kind, number } = self.timeline.next()?;
        let event = match kind {
            Kind::Registration => {
                self.registered = self.registered.saturating_add(1);
                Event::Registration
            }
            Kind::Order => self.order(at, number),
            Kind::Consumption => self.consumption(at, number),
        };
        Some(Planned { at, number, event })
    }

    fn order(&mut self, at: f64, number: u64) -> Event {
        let households = self.households(at);
        if households == 0 {
            return Event::Nothing(Kind::Order);
        }
        let mut rng = rng(self.seed, Purpose::Order, [number, 0]);
        let order = PlannedOrder {
            household: rng.random_range(0..households),
            device: rng.random(),
            product_seed: rng.random(),
            quantity: rng.random_range(3..=10),
        };
        if self.on_the_way.len() < MEMORY {
            self.on_the_way.push_back((at + self.delivered_after, order));
        }
        Event::Order(order)
    }

    fn consumption(&mut self, at: f64, number: u64) -> Event {
        while let Some((_, order)) = self.on_the_way.pop_front_if(|(delivered_at, _)| *delivered_at <= at) {
            self.remember(order);
        }
        let mut rng = rng(self.seed, Purpose::Consumption, [number, 0]);
        match self.delivered.choose(&mut rng) {
            Some(order) => Event::Consumption(*order, rng.random_range(1..=3)),
            None => Event::Nothing(Kind::Consumption),
        }
    }

    /// Households that take part.
    fn households(&self, at: f64) -> u32 {
        let Settling { known, goal } = self.settling;
        let elapsed = Duration::try_from_secs_f64(at / self.speed).unwrap_or(Duration::MAX);
        let settled = u32::try_from(elapsed.as_nanos() / SETTLE_EVERY.as_nanos()).unwrap_or(u32::MAX);
        let settled = known.saturating_add(settled);
        if settled < goal { settled } else { goal.max(known).saturating_add(self.registered) }
    }

    /// Reservoir sampling: each delivered order is as likely to be remembered.
    fn remember(&mut self, order: PlannedOrder) {
        self.delivered_count += 1;
        if self.delivered.len() < MEMORY {
            self.delivered.push(order);
            return;
        }
        let place = rng(self.seed, Purpose::Memory, [self.delivered_count, 0]).random_range(0..self.delivered_count);
        let place = usize::try_from(place).unwrap_or(usize::MAX);
        if let Some(remembered) = self.delivered.get_mut(place) {
            *remembered = order;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(seed: u64, settling: Settling) -> Plan {
        let weights = Weights::new([(Kind::Registration, 1), (Kind::Order, 9), (Kind::Consumption, 10)]);
        Plan::new(seed, Pace::Rate(100.0), weights, settling, Duration::from_secs(10), 1.0)
    }

    fn events(seed: u64, settling: Settling, count: usize) -> Vec<Planned> {
        let mut plan = plan(seed, settling);
        (0..count).filter_map(|_| plan.next()).collect()
    }

    #[test]
    fn the_same_seed_plans_the_same_events() {
        let settling = Settling { known: 0, goal: 50 };
        assert_eq!(events(7, settling, 5000), events(7, settling, 5000));
        assert_ne!(events(7, settling, 5000), events(8, settling, 5000));
    }

    #[test]
    fn only_households_that_have_registered_take_part() {
        let mut registered = 0;
        for Planned { at, event, .. } in events(7, Settling { known: 0, goal: 50 }, 5000) {
            match event {
                Event::Registration => registered += 1,
                Event::Order(order) if order.household < 50 => assert!(f64::from(order.household) < at * 25.0),
                Event::Order(order) => assert!(at >= 2.0 && order.household < 50 + registered),
                Event::Nothing(kind) => assert!(kind == Kind::Consumption || at < 0.05),
                Event::Consumption(..) => {}
            }
        }
    }

    #[test]
    fn what_is_eaten_was_ordered_long_enough_ago() {
        let events = events(7, Settling { known: 5, goal: 5 }, 5000);
        let mut eaten = 0;
        for (index, Planned { at, event, .. }) in events.iter().enumerate() {
            let Event::Consumption(order, quantity) = event else { continue };
            let mut earlier = events[..index].iter().filter(|earlier| earlier.event == Event::Order(*order));
            assert!(earlier.next().unwrap().at + 12.0 <= *at && (1..=3).contains(quantity));
            eaten += 1;
        }
        assert!(eaten > 1500, "{eaten}");
    }

    #[test]
    fn a_long_plan_remembers_orders_of_all_times() {
        let mut plan = plan(7, Settling { known: 5, goal: 5 });
        let mut ordered = Vec::new();
        while plan.delivered_count < 2 * MEMORY as u64 {
            if let Some(Planned { event: Event::Order(order), .. }) = plan.next() {
                ordered.push(order);
            }
        }
        let first_half = &ordered[..MEMORY];
        let remembered = first_half.iter().filter(|order| plan.delivered.contains(order)).count();
        assert!((MEMORY * 45 / 100..MEMORY * 55 / 100).contains(&remembered), "{remembered}");
        assert!(plan.delivered.len() == MEMORY && plan.on_the_way.len() <= MEMORY);
    }
}
