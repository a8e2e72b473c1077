//! The kinds of events and their weights.

use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;

/// The kind of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Kind {
    Registration,
    Order,
    Consumption,
}

impl Kind {
    /// All kinds, in the order of their discriminants.
    pub(crate) const ALL: [Self; 3] = [Self::Registration, Self::Order, Self::Consumption];

    /// The name of the kind, as in logs and metrics.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Registration => "user-registration",
            Self::Order => "product-order",
            Self::Consumption => "product-consumption",
        }
    }
}

/// The relative frequency of each kind.
#[derive(Debug, Clone)]
pub(crate) struct Weights([(Kind, u32); 3]);

impl Weights {
    /// The weights of all kinds. Kinds of weight 0 have no events.
    pub(crate) fn new(weights: [(Kind, u32); 3]) -> Self {
        Self(weights)
    }

    /// The fraction of events of this kind; 0 if all weights are 0.
    pub(super) fn share(&self, kind: Kind) -> f64 {
        let total: f64 = self.0.iter().map(|(_, weight)| f64::from(*weight)).sum();
        let own = self.0.iter().find(|(other, _)| *other == kind).map_or(0.0, |(_, weight)| f64::from(*weight));
        if total > 0.0 { own / total } else { 0.0 }
    }

    /// A random kind by weight; `None` if all weights are 0.
    pub(super) fn draw(&self, rng: &mut ChaCha8Rng) -> Option<Kind> {
        self.0.choose_weighted(rng, |(_, weight)| *weight).ok().map(|(kind, _)| *kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    #[test]
    fn kinds_are_drawn_by_weight() {
        let weights = Weights::new([(Kind::Registration, 0), (Kind::Order, 1), (Kind::Consumption, 3)]);
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let drawn: Vec<Kind> = (0..1000).filter_map(|_| weights.draw(&mut rng)).collect();
        let consumptions = drawn.iter().filter(|kind| **kind == Kind::Consumption).count();
        assert!(!drawn.contains(&Kind::Registration) && (700..800).contains(&consumptions), "{consumptions}");
        assert!((weights.share(Kind::Order) - 0.25).abs() < 1e-9);
    }
}
