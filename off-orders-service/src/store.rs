//! All SQL of the service.

pub(crate) mod checkpoints;
mod counts;
pub(crate) mod late_orders;
mod orders;
mod products;
mod requests;
mod statuses;

pub(crate) use counts::count_orders;
pub(crate) use orders::{Filter, find_order, list_orders, list_orders_of_person};
pub(crate) use products::{
    MAX_RANKED, Terms, correct_words, find_drawn_barcode, find_products, list_products, search_products,
};
pub(crate) use requests::{InsertConflict, Priced, insert_orders, list_conflicts};
pub(crate) use statuses::{Reached, cancel_order, mark_reached, ship_orders};

use chrono::{DateTime, Utc};
use off_events::{InvalidValue, Money, Order, OrderId, OrderStatus, Quantity, Refusal, SsdId, UserId};
use std::time::Duration;
use uuid::Uuid;

/// Maximum difference between the clock of a service and that of the database. Recovery finds orders by the time at
/// which they were placed.
pub(crate) const CLOCK_TOLERANCE: Duration = Duration::from_secs(5);

/// The columns of an order.
#[derive(Debug)]
struct OrderRow {
    id: Uuid,
    ssd_id: i64,
    user_id: i64,
    barcode: String,
    quantity: i32,
    unit_price: i64,
    status: String,
    placed_at: DateTime<Utc>,
    /// How much money was missing, of a refused order.
    missing: Option<i64>,
}

impl OrderRow {
    /// The order. Fails with a decode error if a value is not valid in the domain.
    fn into_order(self) -> sqlx::Result<Order> {
        let quantity = Quantity::try_from(i64::from(self.quantity)).map_err(unreadable)?;
        let unit_price = Money::from_cents(self.unit_price).map_err(unreadable)?;
        let total =
            unit_price.checked_mul(quantity).ok_or(InvalidValue("the total is too large")).map_err(unreadable)?;
        let status: OrderStatus = self.status.parse().map_err(unreadable)?;
        let missing = self.missing.map(Money::from_cents).transpose().map_err(unreadable)?;
        let refusal = missing.map(|missing| Refusal::InsufficientFunds { missing });
        Ok(Order {
            id: OrderId(self.id),
            ssd_id: SsdId(self.ssd_id),
            user_id: UserId(self.user_id),
            barcode: self.barcode.parse().map_err(unreadable)?,
            timestamp: self.placed_at,
            quantity,
            unit_price,
            total,
            status,
            refusal: refusal.filter(|_| status == OrderStatus::Refused),
        })
    }
}

/// The lowest id of an order that is placed at `time` or later: ids are UUIDs of version 7, which begin with the time.
fn first_id_at(time: DateTime<Utc>) -> Uuid {
    let millis = u128::try_from(time.timestamp_millis()).unwrap_or_default();
    Uuid::from_u128(millis << 80)
}

/// A value in the database that is not valid in the domain.
fn unreadable(error: InvalidValue) -> sqlx::Error {
    sqlx::Error::Decode(error.into())
}
