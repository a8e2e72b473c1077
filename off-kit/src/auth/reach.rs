//! Whose data a request may touch.

use super::{Principal, Scope, Scopes, Subject};
use crate::http::Problem;
use axum::{
    extract::{FromRequestParts, OptionalFromRequestParts},
    http::request::Parts,
};
use off_events::{SsdId, UserId};

/// Whose data a request may touch. The statement that reads or writes the data checks it, so that data of others behaves
/// like data that does not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Everybody's.
    All,
    /// That of simulated people and devices.
    Simulated,
    /// That of one person and their devices.
    Person(UserId),
    /// That of one device.
    Device(SsdId),
}

impl Reach {
    /// The widest reach that `principal` has by the scopes `allowed` of a route; `None` if it has none of them.
    pub fn of(principal: &Principal, allowed: Scopes) -> Option<Self> {
        let granted = principal.scopes.intersection(allowed);
        match &principal.subject {
            _ if granted.contains(Scope::Operate) => Some(Self::All),
            _ if granted.contains(Scope::Simulate) => Some(Self::Simulated),
            Subject::Person(id) if granted.contains(Scope::Person) => Some(Self::Person(*id)),
            Subject::Device(id) if granted.contains(Scope::Device) => Some(Self::Device(*id)),
            _ => None,
        }
    }

    /// The values to which a statement compares the person, the device and `is_simulated` of a row, unless they are NULL.
    pub fn columns(self) -> (Option<i64>, Option<i64>, Option<bool>) {
        match self {
            Self::All => (None, None, None),
            Self::Simulated => (None, None, Some(true)),
            Self::Person(id) => (Some(id.0), None, None),
            Self::Device(id) => (None, Some(id.0), None),
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Reach {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        parts.extensions.get::<Self>().copied().ok_or_else(Problem::unauthenticated)
    }
}

/// `None` for a request without a token, on a public route.
impl<S: Sync> OptionalFromRequestParts<S> for Reach {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, Problem> {
        Ok(parts.extensions.get::<Self>().copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn reach(subject: Subject, scopes: &str, allowed: &str) -> Option<Reach> {
        let principal = Principal { subject, scopes: Scopes::of_known(scopes), sid: Uuid::nil(), expires_at: i64::MAX };
        Reach::of(&principal, Scopes::of_known(allowed))
    }

    #[test]
    fn a_caller_gets_the_widest_reach_that_the_route_allows() {
        let (person, device) = (Subject::Person(UserId(17)), Subject::Device(SsdId(4)));
        let client = Subject::Client("generator".to_owned());
        assert_eq!(reach(person.clone(), "person operate", "person operate"), Some(Reach::All));
        assert_eq!(reach(person.clone(), "person operate", "person"), Some(Reach::Person(UserId(17))));
        assert_eq!(reach(device.clone(), "device", "person device"), Some(Reach::Device(SsdId(4))));
        assert_eq!(reach(client.clone(), "simulate", "person simulate"), Some(Reach::Simulated));
        assert_eq!(reach(device, "device", "person operate"), None);
        // A scope that does not fit its subject reaches nothing.
        assert_eq!(reach(client, "person device", "person device"), None);
        assert_eq!(reach(person, "", "person"), None);
    }
}
