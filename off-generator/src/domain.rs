//! What happens in households, and to whom.

use off_events::{MacAddress, StockLow};
use rand::{RngExt, SeedableRng, seq::IndexedRandom};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

/// What can happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Kind {
    Registration,
    Order,
    Consumption,
}

impl Kind {
    pub(crate) const ALL: [Self; 3] = [Self::Registration, Self::Order, Self::Consumption];

    /// The name of the job.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Registration => "user-registration",
            Self::Order => "product-order",
            Self::Consumption => "product-consumption",
        }
    }
}

/// How often each kind happens beside the others.
#[derive(Debug, Clone)]
pub(crate) struct Weights([(Kind, u32); 3]);

impl Weights {
    pub(crate) fn new(weights: [(Kind, u32); 3]) -> Self {
        Self(weights)
    }

    /// The part of all events that is of this kind; 0 when nothing happens at all.
    pub(crate) fn share(&self, kind: Kind) -> f64 {
        let total: f64 = self.0.iter().map(|(_, weight)| f64::from(*weight)).sum();
        let own = self.0.iter().find(|(other, _)| *other == kind).map_or(0.0, |(_, weight)| f64::from(*weight));
        if total > 0.0 { own / total } else { 0.0 }
    }

    /// A kind, drawn by weight; `None` when nothing has any.
    pub(crate) fn draw(&self, rng: &mut ChaCha8Rng) -> Option<Kind> {
        self.0.choose_weighted(rng, |(_, weight)| *weight).ok().map(|(kind, _)| *kind)
    }
}

/// The random numbers of one event: always the same for the same seed, kind and number, whatever else goes on.
pub(crate) fn rng(seed: u64, kind: Kind, number: u64) -> ChaCha8Rng {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    bytes[8..16].copy_from_slice(&number.to_le_bytes());
    bytes[16] = kind as u8;
    ChaCha8Rng::from_seed(bytes)
}

/// A household that registers: the body of the request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Household {
    user: Person,
    devices: Vec<Device>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Person {
    first_name: &'static str,
    last_name: &'static str,
    email: String,
    password: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Device {
    mac_address: String,
}

/// Generated devices have a locally administered address that begins like this; nobody sells such a device.
const GENERATED: &str = "02:0f:";

/// Whether the generator plays the device with this address.
pub(crate) fn is_generated(address: &MacAddress) -> bool {
    address.as_str().starts_with(GENERATED)
}

const FIRST_NAMES: [&str; 20] = [
    "Ada", "Amir", "Anna", "Ben", "Carla", "Chen", "Elif", "Emil", "Fatou", "Hana", "Igor", "Jonas", "Lea", "Malik",
    "Mira", "Nora", "Paul", "Rosa", "Sami", "Yuki",
];
const LAST_NAMES: [&str; 20] = [
    "Adler", "Berg", "Costa", "Dahl", "Esposito", "Fischer", "Garcia", "Hansen", "Ito", "Jansen", "Kaya", "Lambert",
    "Moreau", "Novak", "Okafor", "Petit", "Rossi", "Silva", "Tanaka", "Weber",
];

impl Household {
    /// The household with this number: a person with one to three devices.
    pub(crate) fn new(seed: u64, number: u64) -> Self {
        let mut rng = rng(seed, Kind::Registration, number);
        let first_name = FIRST_NAMES.choose(&mut rng).copied().unwrap_or("Ada");
        let last_name = LAST_NAMES.choose(&mut rng).copied().unwrap_or("Adler");
        let email = format!("{first_name}.{last_name}.{seed}.{number}@example.org").to_lowercase();
        let password = format!("{:016x}", rng.random::<u64>());
        let devices = (0..rng.random_range(1..=3)).map(|_| {
            let [a, b, c, d]: [u8; 4] = rng.random();
            Device { mac_address: format!("{GENERATED}{a:02x}:{b:02x}:{c:02x}:{d:02x}") }
        });
        let devices = devices.collect();
        Self { user: Person { first_name, last_name, email, password }, devices }
    }
}

/// Units in an order that someone places just so.
pub(crate) fn order_quantity(rng: &mut ChaCha8Rng) -> i64 {
    rng.random_range(3..=10)
}

/// Units that a device orders when it is low: always the same for the same message, because the order's key is.
pub(crate) fn restock_quantity(low: &StockLow) -> i64 {
    5 + low.timestamp.timestamp_micros().rem_euclid(6)
}

/// Units that are eaten at once, of `left` there are.
pub(crate) fn bite(rng: &mut ChaCha8Rng, left: i64) -> i64 {
    rng.random_range(1..=3).min(left)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_brings_the_same_people() {
        let people = |seed| (0..50).map(|number| Household::new(seed, number)).collect::<Vec<_>>();
        assert_eq!(people(7), people(7));
        assert_ne!(people(7), people(8));
    }

    #[test]
    fn a_generated_device_is_known_by_its_address() {
        let household = Household::new(1, 1);
        assert!(household.devices.iter().all(|device| is_generated(&device.mac_address.parse().unwrap())));
        assert!(!is_generated(&"02:00:00:12:34:56".parse().unwrap()));
    }

    #[test]
    fn kinds_are_drawn_by_weight() {
        let weights = Weights::new([(Kind::Registration, 0), (Kind::Order, 1), (Kind::Consumption, 3)]);
        let mut rng = rng(1, Kind::Order, 0);
        let drawn: Vec<Kind> = (0..1000).filter_map(|_| weights.draw(&mut rng)).collect();
        let consumptions = drawn.iter().filter(|kind| **kind == Kind::Consumption).count();
        assert!(!drawn.contains(&Kind::Registration) && (700..800).contains(&consumptions), "{consumptions}");
        assert!((weights.share(Kind::Order) - 0.25).abs() < 1e-9);
    }
}
