//! Issues access tokens.

use crate::{App, domain::Session, keys::SigningError};
use off_kit::auth::{Claims, Scope, Scopes, Subject};
use std::fmt;
use uuid::Uuid;

/// An access token and what it allows.
pub(crate) struct AccessToken {
    pub(crate) text: String,
    /// For how many seconds it is valid.
    pub(crate) expires_in: i64,
    pub(crate) scopes: Scopes,
}

/// Without the token.
impl fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessToken").field("scopes", &self.scopes).finish_non_exhaustive()
    }
}

/// What a person gets when they sign in, and when they refresh.
pub(crate) struct TokenPair {
    pub(crate) access: AccessToken,
    pub(crate) refresh_token: String,
    /// For how many seconds the refresh token is valid.
    pub(crate) refresh_expires_in: i64,
}

/// Without the tokens.
impl fmt::Debug for TokenPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenPair").finish_non_exhaustive()
    }
}

/// An access token of `subject`, which becomes invalid when `sid` is revoked.
pub(crate) fn issue(app: &App, subject: &Subject, sid: Uuid, scopes: Scopes) -> Result<AccessToken, SigningError> {
    let claims = Claims::new(&app.issuer, subject, sid, scopes, app.clock.now());
    Ok(AccessToken { text: app.keys.sign(&claims)?, expires_in: claims.exp - claims.iat, scopes })
}

pub(crate) fn scopes_of_person(is_operator: bool) -> Scopes {
    let operate = is_operator.then_some(Scope::Operate);
    [Scope::Person].into_iter().chain(operate).collect()
}

/// The tokens of the current generation of a session.
pub(crate) fn issue_pair(app: &App, session: &Session) -> Result<TokenPair, SigningError> {
    let scopes = scopes_of_person(session.is_operator);
    Ok(TokenPair {
        access: issue(app, &Subject::Person(session.user_id), session.id, scopes)?,
        refresh_token: app.secrets.refresh.derive(session.id, session.generation, &session.salt),
        refresh_expires_in: (session.idle_until - app.clock.now()).num_seconds(),
    })
}
