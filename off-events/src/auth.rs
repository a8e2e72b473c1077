//! Events about sessions and keys.

use crate::Event;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

/// A session or a key ended before its access tokens expire. Every service that verifies tokens follows this.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Revoked {
    /// The session, the device key or the client secret: the `sid` claim of its tokens.
    pub sid: Uuid,
    /// When the last of its tokens has expired.
    pub until: DateTime<Utc>,
}

impl Revoked {
    /// The subject of this event.
    pub const SUBJECT: &'static str = "auth.revoked";
}

impl Event for Revoked {
    fn subject(&self) -> &'static str {
        Self::SUBJECT
    }

    fn event_id(&self) -> String {
        format!("revoked:{}", self.sid)
    }
}
