//! What happens in households, to whom, and when: all of it follows from the settings.

mod household;
mod kind;
mod plan;
mod timeline;

pub(crate) use household::{Household, find_number, is_generated};
pub(crate) use kind::{Kind, Weights};
pub(crate) use plan::{Event, Plan, Planned, PlannedOrder, Settling};
pub(crate) use timeline::Pace;

use off_events::StockLow;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// What random numbers are for. Each purpose has numbers of its own.
#[derive(Debug, Clone, Copy)]
enum Purpose {
    Household,
    Addresses,
    Turn,
    Order,
    Consumption,
    Memory,
    Restock,
}

/// The random numbers for one thing: always the same for the same seed, purpose and key, whatever else goes on.
fn rng(seed: u64, purpose: Purpose, key: [u64; 2]) -> ChaCha8Rng {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    bytes[8..16].copy_from_slice(&key[0].to_le_bytes());
    bytes[16..24].copy_from_slice(&key[1].to_le_bytes());
    bytes[24] = purpose as u8;
    ChaCha8Rng::from_seed(bytes)
}

/// Units that a device orders when a product is low: always the same for the same device and product.
pub(crate) fn restock_quantity(seed: u64, low: &StockLow) -> i64 {
    let barcode = low.barcode.as_str().bytes().fold(0, |number: u64, digit| number.wrapping_mul(31) + u64::from(digit));
    rng(seed, Purpose::Restock, [low.ssd_id.0.cast_unsigned(), barcode]).random_range(5..=10)
}
