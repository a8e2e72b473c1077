//! People and their devices.

use crate::{Event, SsdId, UserId};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A person and their devices exist. It carries no name and no address: who may know those asks the users service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UserRegistered {
    pub id: UserId,
    pub ssd_ids: Vec<SsdId>,
    pub timestamp: DateTime<Utc>,
}

impl UserRegistered {
    pub const SUBJECT: &'static str = "users.registered";
}

impl Event for UserRegistered {
    fn subject(&self) -> &'static str {
        Self::SUBJECT
    }

    fn message_id(&self) -> String {
        format!("registered:{}", self.id)
    }
}
