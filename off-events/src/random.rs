//! The request for a random device and product to order.
//!
//! A client publishes a [`RandomRequest`], or an empty message, on [`ORDERS_RANDOM`] with a
//! [`crate::headers::REQUEST_ID`]. The users service and the orders service each respond on [`ORDERS_NEW`] with the
//! same id, so that any number of clients can send requests concurrently. Neither subject is stored in a stream: a
//! response is useless once its client has stopped waiting.

use crate::{Barcode, SsdId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The subject of requests.
pub const ORDERS_RANDOM: &str = "orders.random";
/// The subject of responses. Despite its name it carries no orders.
pub const ORDERS_NEW: &str = "orders.new";

/// The request. An empty message requests any device and any product.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RandomRequest {
    /// The device, if it is known already. Then only the orders service responds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ssd_id: Option<SsdId>,
    /// The seed of the random product. The same seed selects the same product as long as the catalog does not change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub product_seed: Option<u32>,
}

/// The response of the users service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RandomDevice {
    /// A device, chosen uniformly at random; `null` while none is registered.
    // The field must be present, even if it is `null`: a message without it is of another type.
    #[serde(deserialize_with = "Option::deserialize")]
    #[schema(required)]
    pub ssd_id: Option<SsdId>,
}

/// The response of the orders service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RandomBarcode {
    /// The barcode of a product, chosen uniformly at random; `null` while the catalog is empty.
    #[serde(deserialize_with = "Option::deserialize")]
    #[schema(required)]
    pub barcode: Option<Barcode>,
}
