//! The plan of all events: what happens in which household, and when. It depends only on the settings.

mod household;
mod income;
mod kind;
mod pay_days;
mod plan;
mod timeline;

pub(crate) use household::{Household, find_household_number, is_generated_address};
pub(crate) use income::Income;
pub(crate) use kind::{Kind, Weights};
pub(crate) use pay_days::{PAY, PlannedPay};
pub(crate) use plan::{Action, InitialHouseholds, Plan, PlannedEvent, PlannedOrder};
pub(crate) use timeline::Pace;

use off_events::StockLow;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// What random numbers are used for. Each purpose has an independent sequence.
#[derive(Debug, Clone, Copy)]
enum Purpose {
    Household,
    Addresses,
    Kind,
    Order,
    Consumption,
    Sample,
    Restock,
    Income,
    PayDay,
}

/// A random number generator that depends only on seed, purpose and key.
fn rng(seed: u64, purpose: Purpose, key: [u64; 2]) -> ChaCha8Rng {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    bytes[8..16].copy_from_slice(&key[0].to_le_bytes());
    bytes[16..24].copy_from_slice(&key[1].to_le_bytes());
    bytes[24] = purpose as u8;
    ChaCha8Rng::from_seed(bytes)
}

/// The number of units that a device reorders. Depends only on seed, device and product.
pub(crate) fn restock_quantity(seed: u64, low: &StockLow) -> i64 {
    let barcode = low.barcode.as_str().bytes().fold(0, |number: u64, digit| number.wrapping_mul(31) + u64::from(digit));
    rng(seed, Purpose::Restock, [low.ssd_id.0.cast_unsigned(), barcode]).random_range(5..=10)
}
