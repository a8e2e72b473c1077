//! The numbers of orders, which the orders service counts.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How many orders there are in each stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct OrderCounts {
    /// All orders ever placed.
    pub(crate) placed: i64,
    /// Those that wait for their payment.
    pub(crate) pending: i64,
    /// Those that the supplier has.
    pub(crate) paid: i64,
    /// Those that are on their way.
    pub(crate) shipped: i64,
    /// Those that are over: completed, refused or cancelled.
    pub(crate) ended: i64,
}
