//! The one question on the bus: a device and a product to order, please.
//!
//! Whoever asks publishes a [`RandomQuestion`], or an empty message, on [`ORDERS_RANDOM`] with an
//! [`crate::headers::REQUEST_ID`]; the users service and the orders service each answer on [`ORDERS_NEW`] with the same id, so
//! any number may ask at once. Neither is kept in a stream: an answer nobody waits for is worth nothing.

use crate::{Barcode, SsdId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Where the question is asked.
pub const ORDERS_RANDOM: &str = "orders.random";
/// Where it is answered.
pub const ORDERS_NEW: &str = "orders.new";

/// The question. An empty message asks for any device and any product.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RandomQuestion {
    /// The device, where it is known already: then only the orders service answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ssd_id: Option<SsdId>,
    /// The seed of the product's draw: as long as the catalogue is the same, the same seed draws the same product.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub product_seed: Option<u32>,
}

/// The users service's half of the answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RandomSsd {
    /// Any device, each as likely as the other; `null` while none is registered.
    #[serde(deserialize_with = "Option::deserialize")] // `null` is an answer, absence is another message
    #[schema(required)]
    pub ssd_id: Option<SsdId>,
}

/// The orders service's half of the answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RandomBarcode {
    /// Any product, each as likely as the other; `null` while the catalogue is empty.
    #[serde(deserialize_with = "Option::deserialize")]
    #[schema(required)]
    pub barcode: Option<Barcode>,
}
