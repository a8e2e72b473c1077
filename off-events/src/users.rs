//! Events about people and their devices.

use crate::{Event, Money, OrderId, SsdId, UserId};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A person registered with their devices. The event contains no personal data; the users service provides it to those
/// who may see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UserRegistered {
    /// The person.
    pub id: UserId,
    /// Their devices, in the order of the registration.
    pub ssd_ids: Vec<SsdId>,
    /// When they registered.
    pub timestamp: DateTime<Utc>,
}

impl UserRegistered {
    /// The subject of this event.
    pub const SUBJECT: &'static str = "users.registered";
}

impl Event for UserRegistered {
    fn subject(&self) -> &'static str {
        Self::SUBJECT
    }

    fn event_id(&self) -> String {
        format!("registered:{}", self.id)
    }
}

/// A charge took the balance of a person below a threshold. The event does not contain the balance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LowBalance {
    /// The person.
    pub user_id: UserId,
    /// The order that was charged.
    pub order_id: OrderId,
    /// The balance is below this amount now, and was not before.
    pub threshold: Money,
    /// When the order was charged.
    pub timestamp: DateTime<Utc>,
}

impl LowBalance {
    /// The subject of this event.
    pub const SUBJECT: &'static str = "users.low_balance";
}

impl Event for LowBalance {
    fn subject(&self) -> &'static str {
        Self::SUBJECT
    }

    fn event_id(&self) -> String {
        format!("low_balance:{}", self.order_id)
    }
}
