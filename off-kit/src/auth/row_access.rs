//! Which rows a request may touch.

use super::{Principal, Scope, Scopes, Subject};
use crate::http::{CommonCode, Problem};
use axum::{
    extract::{FromRequestParts, OptionalFromRequestParts},
    http::request::Parts,
};
use off_events::{SsdId, UserId};

/// Which rows a request may touch. The statement that reads or writes them checks it, so that data of others behaves
/// like data that does not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowAccess {
    /// All rows.
    All,
    /// Those of simulated people and devices.
    Simulated,
    /// Those of one person and their devices.
    Person(UserId),
    /// Those of one device.
    Device(SsdId),
}

impl RowAccess {
    /// The widest access that `principal` has by the scopes `allowed` of a route; `None` if it has none of them.
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

    /// The person whose data a request is about, who may leave `asked` out, and whether they must be simulated (`None` if
    /// they may be either).
    ///
    /// # Errors
    /// 404 for another person, as for one who does not exist; 400 if a program does not say who.
    pub fn person(self, asked: Option<i64>) -> Result<(UserId, Option<bool>), Problem> {
        match (self, asked) {
            (Self::Person(own), None) => Ok((own, None)),
            (Self::Person(own), Some(id)) if own.0 == id => Ok((own, None)),
            (Self::Simulated, Some(id)) => Ok((UserId(id), Some(true))),
            (Self::All, Some(id)) => Ok((UserId(id), None)),
            (Self::Person(_) | Self::Device(_), asked) => Err(no_such_person(asked.unwrap_or_default())),
            (Self::Simulated | Self::All, None) => {
                Err(Problem::new(CommonCode::InvalidQuery, "user_id: the person whose data it is"))
            }
        }
    }

    /// The values to which a statement compares the person, the device and `is_simulated` of a row, unless they are
    /// NULL.
    pub fn columns(self) -> (Option<i64>, Option<i64>, Option<bool>) {
        match self {
            Self::All => (None, None, None),
            Self::Simulated => (None, None, Some(true)),
            Self::Person(id) => (Some(id.0), None, None),
            Self::Device(id) => (None, Some(id.0), None),
        }
    }
}

/// 404 for a person who does not exist, or whose data the caller may not see.
pub fn no_such_person(id: i64) -> Problem {
    Problem::not_found(format!("there is no person {id}"))
}

impl<S: Sync> FromRequestParts<S> for RowAccess {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        parts.extensions.get::<Self>().copied().ok_or_else(Problem::unauthenticated)
    }
}

/// `None` for a request without a token, on a public route.
impl<S: Sync> OptionalFromRequestParts<S> for RowAccess {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, Problem> {
        Ok(parts.extensions.get::<Self>().copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn access(subject: Subject, scopes: &str, allowed: &str) -> Option<RowAccess> {
        let principal = Principal { subject, scopes: Scopes::of_known(scopes), sid: Uuid::nil(), expires_at: i64::MAX };
        RowAccess::of(&principal, Scopes::of_known(allowed))
    }

    #[test]
    fn a_caller_gets_the_widest_access_that_the_route_allows() {
        let (person, device) = (Subject::Person(UserId(17)), Subject::Device(SsdId(4)));
        let client = Subject::Client("generator".to_owned());
        assert_eq!(access(person.clone(), "person operate", "person operate"), Some(RowAccess::All));
        assert_eq!(access(person.clone(), "person operate", "person"), Some(RowAccess::Person(UserId(17))));
        assert_eq!(access(device.clone(), "device", "person device"), Some(RowAccess::Device(SsdId(4))));
        assert_eq!(access(client.clone(), "simulate", "person simulate"), Some(RowAccess::Simulated));
        assert_eq!(access(device, "device", "person operate"), None);
        // A scope that does not fit its subject reaches nothing.
        assert_eq!(access(client, "person device", "person device"), None);
        assert_eq!(access(person, "", "person"), None);
    }
}
