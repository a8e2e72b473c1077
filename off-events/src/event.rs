//! The trait that all events implement.

use serde::{Serialize, de::DeserializeOwned};

/// A fact that happened, stored in a JetStream stream.
pub trait Event: Serialize + DeserializeOwned + Clone + Send + Sync + 'static {
    /// The subject this fact is published on.
    fn subject(&self) -> &'static str;

    /// The event id (`ce-id`): always the same for the same fact. `Nats-Msg-Id`, the deduplication id, is the event id,
    /// with a time appended when the event is announced again.
    fn event_id(&self) -> String;

    /// The CloudEvents `ce-type`: the subject, and the version of the payload.
    fn event_type(&self) -> String {
        event_type(self.subject())
    }
}

/// The CloudEvents `ce-type` of the messages on `subject`.
pub fn event_type(subject: &str) -> String {
    format!("off.{subject}.v1")
}
