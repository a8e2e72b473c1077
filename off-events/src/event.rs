//! The trait that all events implement.

use serde::{Serialize, de::DeserializeOwned};

/// A fact that happened, stored in a JetStream stream.
pub trait Event: Serialize + DeserializeOwned + Clone + Send + Sync + 'static {
    /// The subject this fact is published on.
    fn subject(&self) -> &'static str;

    /// The message id (`Nats-Msg-Id` and `ce-id`). The same fact always has the same id, so that the broker and
    /// consumers can detect duplicates.
    fn message_id(&self) -> String;

    /// The CloudEvents `ce-type`: the subject, and the version of the payload.
    fn event_type(&self) -> String {
        event_type(self.subject())
    }
}

/// The CloudEvents `ce-type` of the messages on `subject`.
pub fn event_type(subject: &str) -> String {
    format!("off.{subject}.v1")
}
