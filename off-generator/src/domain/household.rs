//! The people who are played, and their devices.

use super::{Purpose, rng};
use off_events::MacAddress;
use rand::{RngExt, seq::IndexedRandom};
use serde::Serialize;

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

/// The addresses that are kept for a household; it has fewer devices than that.
const ADDRESSES: u32 = 4;

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
    pub(crate) fn new(seed: u64, number: u32) -> Self {
        let mut rng = rng(seed, Purpose::Household, [number.into(), 0]);
        let first_name = FIRST_NAMES.choose(&mut rng).copied().unwrap_or("Ada");
        let last_name = LAST_NAMES.choose(&mut rng).copied().unwrap_or("Adler");
        let email = format!("{first_name}.{last_name}.{seed}.{number}@example.org").to_lowercase();
        let password = format!("{:016x}", rng.random::<u64>());
        let first = first_address(seed).wrapping_add(number.wrapping_mul(ADDRESSES));
        let devices = (0..rng.random_range(1..ADDRESSES)).map(|index| {
            let [a, b, c, d] = first.wrapping_add(index).to_be_bytes();
            Device { mac_address: format!("{GENERATED}{a:02x}:{b:02x}:{c:02x}:{d:02x}") }
        });
        let devices = devices.collect();
        Self { user: Person { first_name, last_name, email, password }, devices }
    }
}

/// Whether the generator plays the device with this address.
pub(crate) fn is_generated(address: &MacAddress) -> bool {
    address.as_str().starts_with(GENERATED)
}

/// The number of the household that has a device with this address, provided that it is one of this seed.
pub(crate) fn find_number(seed: u64, address: &MacAddress) -> Option<u32> {
    let digits = address.as_str().strip_prefix(GENERATED)?.replace(':', "");
    let address = u32::from_str_radix(&digits, 16).ok()?;
    Some(address.wrapping_sub(first_address(seed)) / ADDRESSES)
}

/// The address of the first device: seeds are apart, so that households of several seeds can live in one database.
fn first_address(seed: u64) -> u32 {
    rng(seed, Purpose::Addresses, [0, 0]).random()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn the_same_seed_brings_the_same_people() {
        let people = |seed| (0..50).map(|number| Household::new(seed, number)).collect::<Vec<_>>();
        assert_eq!(people(7), people(7));
        assert_ne!(people(7), people(8));
    }

    #[test]
    fn a_generated_device_is_known_by_its_address_and_belongs_to_one_household() {
        let mut seen = HashSet::new();
        for number in 0..1000 {
            for device in Household::new(1, number).devices {
                let address = device.mac_address.parse().unwrap();
                assert!(is_generated(&address) && seen.insert(device.mac_address));
                assert_eq!(find_number(1, &address), Some(number));
            }
        }
        assert!(!is_generated(&"02:00:00:12:34:56".parse().unwrap()));
    }
}
