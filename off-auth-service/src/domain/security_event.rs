//! Security events: who did what, from where. They hold no secrets, and no e-mail addresses.

use off_kit::http::RequestSource;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EventKind {
    Login,
    LoginFailed,
    RefreshReused,
    Logout,
    PasswordChanged,
    PasswordChangeFailed,
    SessionRevoked,
    DeviceKeyCreated,
    DeviceKeyRevoked,
    ClientToken,
    TokenRevoked,
    SigningKeyCreated,
    /// A key signs before its time.
    SigningKeyStarted,
    SigningKeyRetired,
}

impl EventKind {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::LoginFailed => "login_failed",
            Self::RefreshReused => "refresh_reused",
            Self::Logout => "logout",
            Self::PasswordChanged => "password_changed",
            Self::PasswordChangeFailed => "password_change_failed",
            Self::SessionRevoked => "session_revoked",
            Self::DeviceKeyCreated => "device_key_created",
            Self::DeviceKeyRevoked => "device_key_revoked",
            Self::ClientToken => "client_token",
            Self::TokenRevoked => "token_revoked",
            Self::SigningKeyCreated => "signing_key_created",
            Self::SigningKeyStarted => "signing_key_started",
            Self::SigningKeyRetired => "signing_key_retired",
        }
    }
}

/// A row of the security log.
#[derive(Debug)]
pub(crate) struct SecurityEvent<'a> {
    pub(crate) kind: EventKind,
    /// Who did it, like `user:17`; empty if unknown.
    pub(crate) subject: String,
    /// The client's address; empty if unknown.
    pub(crate) address: &'a str,
    /// The ids that it is about.
    pub(crate) detail: String,
}

impl<'a> SecurityEvent<'a> {
    pub(crate) fn new(
        kind: EventKind,
        subject: impl ToString,
        source: &'a RequestSource,
        detail: impl Into<String>,
    ) -> Self {
        Self { kind, subject: subject.to_string(), address: &source.address, detail: detail.into() }
    }
}
