//! The claims of an access token, RFC 9068.

use super::{Principal, Scopes, Subject};
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use uuid::Uuid;

/// The audience of all tokens.
pub const AUDIENCE: &str = "off";

/// How long a token is valid.
pub const TOKEN_LIFETIME: Duration = Duration::from_mins(10);

/// How far the clocks of the auth service and of a verifier may differ.
pub const LEEWAY: TimeDelta = TimeDelta::seconds(60);

/// The claims of an access token.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Claims {
    /// The issuer.
    pub iss: String,
    /// The audience, [`AUDIENCE`].
    pub aud: String,
    /// Who calls, a [`Subject`].
    pub sub: String,
    /// The program that uses the token.
    pub client_id: String,
    /// What can be revoked: the session of a person, the key of a device, or the secret of a client.
    pub sid: Uuid,
    /// What the token allows, [`Scopes`].
    pub scope: String,
    /// When it expires, in seconds since 1970.
    pub exp: i64,
    /// When it was issued, in seconds since 1970.
    pub iat: i64,
    /// Not valid before, in seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nbf: Option<i64>,
    /// The id of the token.
    pub jti: Uuid,
}

impl Claims {
    /// The claims of a new token of `subject`, which is valid for [`TOKEN_LIFETIME`] from `now`.
    pub fn new(issuer: &str, subject: &Subject, sid: Uuid, scopes: Scopes, now: DateTime<Utc>) -> Self {
        let client_id = match subject {
            Subject::Client(id) => id.clone(),
            Subject::Device(ssd_id) => format!("ssd-{ssd_id}"),
            Subject::Person(_) => "off".to_owned(),
        };
        Self {
            iss: issuer.to_owned(),
            aud: AUDIENCE.to_owned(),
            sub: subject.to_string(),
            client_id,
            sid,
            scope: scopes.to_string(),
            exp: (now + TOKEN_LIFETIME).timestamp(),
            iat: now.timestamp(),
            nbf: None,
            jti: Uuid::new_v4(),
        }
    }

    /// The caller that these claims name; `None` if they name none.
    pub(super) fn principal(&self) -> Option<Principal> {
        Some(Principal {
            subject: self.sub.parse().ok()?,
            scopes: Scopes::of_known(&self.scope),
            sid: self.sid,
            expires_at: self.exp,
        })
    }
}
