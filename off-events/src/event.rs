//! What every event has in common.

use serde::{Serialize, de::DeserializeOwned};

/// A fact that happened and is kept in a stream.
pub trait Event: Serialize + DeserializeOwned + Clone + Send + Sync + 'static {
    /// The subject this fact is published on.
    fn subject(&self) -> &'static str;

    /// The same fact always has the same id (`Nats-Msg-Id` and `ce-id`), so that a broker or a reader who sees it
    /// twice can tell.
    fn message_id(&self) -> String;

    /// The CloudEvents `ce-type`: the subject, and the version of the payload.
    fn event_type(&self) -> String {
        event_type(self.subject())
    }
}

/// The CloudEvents `ce-type` of what travels on `subject`.
pub fn event_type(subject: &str) -> String {
    format!("off.{subject}.v1")
}
