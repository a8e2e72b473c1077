//! Events about shelves.

use crate::{Barcode, Event, Quantity, SsdId};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A device reports that units of a product were taken off its shelf.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StockConsumed {
    /// Chosen by the device; a repetition of the same report has the same id. 1 to 100 characters.
    #[schema(example = "02:0f:f0:12:34:56-1765", min_length = 1, max_length = 100)]
    pub id: String,
    /// The device.
    pub ssd_id: SsdId,
    /// The product's barcode.
    pub barcode: Barcode,
    /// Units taken.
    pub quantity: Quantity,
    /// When the units were taken, by the device's own clock.
    pub timestamp: DateTime<Utc>,
}

impl StockConsumed {
    /// The subject of this event.
    pub const SUBJECT: &'static str = "stock.consumed";
    /// The maximum length of `id`, in characters.
    pub const MAX_ID_LENGTH: usize = 100;
}

impl Event for StockConsumed {
    fn subject(&self) -> &'static str {
        Self::SUBJECT
    }

    fn event_id(&self) -> String {
        format!("{}:{}", self.ssd_id, self.id)
    }
}

/// A product on a shelf is at or below its reorder point. Published when the product becomes low, and after a delivery
/// that leaves it low. While it stays low, the event is repeated with the same id at growing intervals.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StockLow {
    /// The device.
    pub ssd_id: SsdId,
    /// The product's barcode.
    pub barcode: Barcode,
    /// Units left.
    pub quantity: i32,
    /// At or below this quantity the product is low.
    pub reorder_point: i32,
    /// Since when the product is low.
    pub timestamp: DateTime<Utc>,
}

impl StockLow {
    /// The subject of this event.
    pub const SUBJECT: &'static str = "stock.low";
}

impl Event for StockLow {
    fn subject(&self) -> &'static str {
        Self::SUBJECT
    }

    fn event_id(&self) -> String {
        format!("low:{}:{}:{}", self.ssd_id, self.barcode, self.timestamp.timestamp_micros())
    }
}
