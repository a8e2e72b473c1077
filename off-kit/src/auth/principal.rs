//! Who calls.

use super::Scopes;
use crate::http::Problem;
use axum::{extract::FromRequestParts, http::request::Parts};
use off_events::{SsdId, UserId};
use std::{fmt, str::FromStr, sync::Arc};
use uuid::Uuid;

/// A caller.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Subject {
    /// A person.
    Person(UserId),
    /// A device.
    Device(SsdId),
    /// A program with credentials of its own.
    Client(String),
}

/// As in the `sub` claim: `user:17`, `device:2032` or `client:generator`.
impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Person(id) => write!(f, "user:{id}"),
            Self::Device(id) => write!(f, "device:{id}"),
            Self::Client(id) => write!(f, "client:{id}"),
        }
    }
}

/// A text that names no caller.
#[derive(Debug, thiserror::Error)]
#[error("expected user:NUMBER, device:NUMBER or client:NAME")]
pub struct InvalidSubject;

impl FromStr for Subject {
    type Err = InvalidSubject;

    fn from_str(text: &str) -> Result<Self, InvalidSubject> {
        let (kind, id) = text.split_once(':').ok_or(InvalidSubject)?;
        match kind {
            "user" => id.parse().map(|id| Self::Person(UserId(id))).map_err(|_| InvalidSubject),
            "device" => id.parse().map(|id| Self::Device(SsdId(id))).map_err(|_| InvalidSubject),
            "client" if !id.is_empty() => Ok(Self::Client(id.to_owned())),
            _ => Err(InvalidSubject),
        }
    }
}

/// A verified token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// Who calls.
    pub subject: Subject,
    /// What the token allows.
    pub scopes: Scopes,
    /// What can be revoked: the session of a person, the key of a device, or the secret of a client.
    pub sid: Uuid,
    /// When the token expires, in seconds since 1970.
    pub expires_at: i64,
}

/// The caller of a request; a handler takes it as an argument.
#[derive(Debug, Clone)]
pub struct Caller(pub Arc<Principal>);

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        parts.extensions.get::<Arc<Principal>>().cloned().map(Self).ok_or_else(Problem::unauthenticated)
    }
}
