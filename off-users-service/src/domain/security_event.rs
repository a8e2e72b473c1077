//! Security events: who did what, from where. They hold no secrets, and no personal data.

use off_events::UserId;
use off_kit::auth::Subject;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EventKind {
    /// A person changed their name or phone number.
    ProfileChanged,
    /// A person changed the address by which they sign in.
    EmailChanged,
    /// A device got a key.
    DeviceKeyCreated,
}

impl EventKind {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::ProfileChanged => "profile_changed",
            Self::EmailChanged => "email_changed",
            Self::DeviceKeyCreated => "device_key_created",
        }
    }
}

/// A row of the security log.
#[derive(Debug)]
pub(crate) struct SecurityEvent {
    pub(crate) kind: EventKind,
    /// Who did it.
    pub(crate) subject: Subject,
    pub(crate) detail: String,
}

impl SecurityEvent {
    /// What a person did.
    pub(crate) fn of_person(id: UserId, kind: EventKind, detail: String) -> Self {
        Self { kind, subject: Subject::Person(id), detail }
    }
}
