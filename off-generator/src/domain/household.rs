//! Generated people and their devices.

use super::{Purpose, rng};
use off_events::MacAddress;
use rand::{RngExt, seq::IndexedRandom};
use serde::Serialize;

/// A household; serialized as the body of its registration.
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

/// Prefix of generated MAC addresses. They are locally administered, so no manufactured device has one.
const MAC_PREFIX: &str = "02:0f:";

/// Addresses reserved per household. A household has fewer devices than that.
const ADDRESSES_PER_HOUSEHOLD: u32 = 4;

const FIRST_NAMES: [&str; 20] = [
    "Ada", "Amir", "Anna", "Ben", "Carla", "Chen", "Elif", "Emil", "Fatou", "Hana", "Igor", "Jonas", "Lea", "Malik",
    "Mira", "Nora", "Paul", "Rosa", "Sami", "Yuki",
];
const LAST_NAMES: [&str; 20] = [
    "Adler", "Berg", "Costa", "Dahl", "Esposito", "Fischer", "Garcia", "Hansen", "Ito", "Jansen", "Kaya", "Lambert",
    "Moreau", "Novak", "Okafor", "Petit", "Rossi", "Silva", "Tanaka", "Weber",
];

impl Household {
    /// The household with the given number: a person with one to three devices.
    pub(crate) fn new(seed: u64, number: u32) -> Self {
        let mut rng = rng(seed, Purpose::Household, [number.into(), 0]);
        let first_name = FIRST_NAMES.choose(&mut rng).copied().unwrap_or("Ada");
        let last_name = LAST_NAMES.choose(&mut rng).copied().unwrap_or("Adler");
        let email = format!("{first_name}.{last_name}.{seed}.{number}@example.org").to_lowercase();
        let password = format!("{:016x}", rng.random::<u64>());
        let first = first_address(seed).wrapping_add(number.wrapping_mul(ADDRESSES_PER_HOUSEHOLD));
        let devices = (0..rng.random_range(1..ADDRESSES_PER_HOUSEHOLD)).map(|index| {
            let [a, b, c, d] = first.wrapping_add(index).to_be_bytes();
            Device { mac_address: format!("{MAC_PREFIX}{a:02x}:{b:02x}:{c:02x}:{d:02x}") }
        });
        let devices = devices.collect();
        Self { user: Person { first_name, last_name, email, password }, devices }
    }
}

/// Whether the device with this address was generated, with any seed.
pub(crate) fn is_generated_address(address: &MacAddress) -> bool {
    address.as_str().starts_with(MAC_PREFIX)
}

/// The number of the household that owns this address, assuming that it was generated with `seed`; `None` if the
/// address was not generated.
pub(crate) fn find_household_number(seed: u64, address: &MacAddress) -> Option<u32> {
    let digits = address.as_str().strip_prefix(MAC_PREFIX)?.replace(':', "");
    let address = u32::from_str_radix(&digits, 16).ok()?;
    Some(address.wrapping_sub(first_address(seed)) / ADDRESSES_PER_HOUSEHOLD)
}

/// The address of the first device. It is random per seed, so that households of several seeds fit into one database.
fn first_address(seed: u64) -> u32 {
    rng(seed, Purpose::Addresses, [0, 0]).random()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn the_same_seed_generates_the_same_people() {
        let people = |seed| (0..50).map(|number| Household::new(seed, number)).collect::<Vec<_>>();
        assert_eq!(people(7), people(7));
        assert_ne!(people(7), people(8));
    }

    #[test]
    fn a_generated_address_identifies_one_household() {
        let mut seen = HashSet::new();
        for number in 0..1000 {
            for device in Household::new(1, number).devices {
                let address = device.mac_address.parse().unwrap();
                assert!(is_generated_address(&address) && seen.insert(device.mac_address));
                assert_eq!(find_household_number(1, &address), Some(number));
            }
        }
        assert!(!is_generated_address(&"02:00:00:12:34:56".parse().unwrap()));
    }
}
