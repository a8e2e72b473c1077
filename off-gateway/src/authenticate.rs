//! Who sends a request, and whether they may send another one now.

use crate::{
    address::ClientAddress,
    exchange::{BasicCredentials, Exchange, Refusal},
    rates::{Class, Exceeded, Level, RateKey, RateLimits},
    routes::{Cookie, Route},
    session_cookie,
};
use axum::http::{HeaderMap, HeaderValue, Method, header};
use off_kit::{
    auth::{Principal, Scope, Subject, TokenError, Verifier},
    http::{CommonCode, Problem},
};
use percent_encoding::percent_decode_str;
use std::sync::Arc;

/// The sender of a request, as far as it is known.
#[derive(Debug)]
pub(crate) struct Authenticated {
    /// Who the token names.
    pub(crate) principal: Option<Arc<Principal>>,
    /// The `Authorization` header for the service, if it is another one than the client's.
    pub(crate) authorization: Option<HeaderValue>,
    /// The rate limit after this request.
    pub(crate) level: Option<Level>,
    /// What the caller is counted by.
    pub(crate) rate_key: RateKey,
    /// Whether the session in the cookie has ended.
    pub(crate) has_ended: bool,
    /// Whether nobody knows now whose the cookie is.
    pub(crate) is_unknown: bool,
}

/// Why a request goes no further.
#[derive(Debug)]
pub(crate) enum Refused {
    Problem(Problem),
    /// There is no device, client or session with this key.
    WrongKey,
    TooMany(Exceeded),
}

impl From<Problem> for Refused {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

impl From<Exceeded> for Refused {
    fn from(exceeded: Exceeded) -> Self {
        Self::TooMany(exceeded)
    }
}

/// Finds out who sends requests.
#[derive(Debug)]
pub(crate) struct Authenticator {
    pub(crate) verifier: Verifier,
    pub(crate) exchange: Exchange,
    pub(crate) rates: Arc<RateLimits>,
}

/// The credentials of a request.
enum Credentials<'a> {
    Bearer(&'a str),
    Basic(&'a HeaderValue),
    Session(&'a str),
    None,
}

impl Authenticator {
    /// The caller of a request, which counts against their rate limit.
    pub(crate) async fn identify(
        &self,
        route: &Route,
        method: &Method,
        headers: &HeaderMap,
        client: ClientAddress,
    ) -> Result<Authenticated, Refused> {
        let (is_public, is_sign_in) = (route.is_public(method), route.is_sign_in(method));
        let verified = match credentials(headers) {
            Credentials::Bearer(token) => self.verify(token, client).await.map(Some),
            // The auth service takes these itself.
            Credentials::Basic(_) if route.takes_basic() => Ok(None),
            Credentials::Basic(basic) => {
                return self.identify_by_key(is_sign_in, BasicCredentials::of(basic), client).await;
            }
            // There are pages for everybody, and a sign-in comes with the cookie of the session before.
            Credentials::Session(_) if route.cookie == Cookie::Ignored => Ok(None),
            Credentials::Session(key) => {
                session_cookie::check_origin(method, headers)?;
                let scope = (route.cookie == Cookie::Person).then_some(Scope::Person);
                match self.identify_by_key(is_sign_in, BasicCredentials::of_session(key, scope), client).await {
                    Err(Refused::WrongKey) if is_public => {
                        let anonymous = self.count_address(is_sign_in, client)?;
                        return Ok(Authenticated { has_ended: true, ..anonymous });
                    }
                    // Everybody may look at a public page while the auth service is away.
                    Err(Refused::Problem(_)) if is_public && method.is_safe() => {
                        let anonymous = self.count_address(is_sign_in, client)?;
                        return Ok(Authenticated { is_unknown: true, ..anonymous });
                    }
                    // No challenge for Basic credentials, for which a browser would open a dialog.
                    Err(Refused::WrongKey) => return Err(Problem::unauthenticated().into()),
                    identified => return identified,
                }
            }
            Credentials::None => Ok(None),
        };
        match verified {
            Ok(Some(principal)) => self.count(is_sign_in, principal, None, client),
            // An expired token must not prevent a sign-in. Where a public route looks at tokens, its service refuses
            // it.
            Ok(None) | Err(Refused::Problem(_)) if is_public => self.count_address(is_sign_in, client),
            Ok(None) => {
                self.count_address(is_sign_in, client)?;
                Err(Problem::unauthenticated().into())
            }
            Err(refused) => Err(refused),
        }
    }

    /// Forgets the tokens of the session in the cookie, which has ended: the message about it may take a while.
    pub(crate) fn forget_session(&self, headers: &HeaderMap) {
        let Some(key) = session_cookie::session_key(headers) else { return };
        for scope in [None, Some(Scope::Person)] {
            if let Some(credentials) = BasicCredentials::of_session(key, scope) {
                self.exchange.forget(&credentials.fingerprint());
            }
        }
    }

    /// Verifies a token. Those that are not valid cost a signature each, so they are limited for each address.
    async fn verify(&self, token: &str, client: ClientAddress) -> Result<Arc<Principal>, Refused> {
        // Callers whose tokens are known do not suffer from others at the same address.
        if let Some(Ok(principal)) = self.verifier.verify_known(token) {
            return Ok(principal);
        }
        let network = RateKey::network(client.address);
        self.rates.check(Class::InvalidToken, network.clone())?;
        match self.verifier.verify(token).await {
            Ok(principal) => Ok(principal),
            Err(TokenError::NoKeys) => Err(Problem::of_token(TokenError::NoKeys).into()),
            Err(error) => {
                self.rates.take(Class::InvalidToken, network)?;
                Err(Problem::of_token(error).into())
            }
        }
    }

    /// The caller of a request with Basic credentials.
    async fn identify_by_key(
        &self,
        is_sign_in: bool,
        basic: Option<BasicCredentials>,
        client: ClientAddress,
    ) -> Result<Authenticated, Refused> {
        let network = RateKey::network(client.address);
        let Some(basic) = basic else {
            self.rates.take(Class::InvalidKey, network)?;
            return Err(Refused::WrongKey);
        };
        let fingerprint = basic.fingerprint();
        if let Some(token) = self.exchange.known(&fingerprint) {
            match self.verifier.verify(&token).await {
                Ok(principal) => return self.count(is_sign_in, principal, Some(&token), client),
                // The key may have been replaced, or the token signed with a key that is gone.
                Err(_) => self.exchange.forget(&fingerprint),
            }
        }
        self.rates.check(Class::InvalidKey, network.clone())?;
        // Counted after the answer: many devices behind one address may come at once, each with a right key.
        let token = match self.exchange.fetch(&basic, client).await {
            Ok(token) => token,
            Err(Refusal::Unavailable) => {
                return Err(Problem::unavailable("keys cannot be checked now; try again").into());
            }
            Err(Refusal::Invalid) => {
                self.rates.take(Class::InvalidKey, network)?;
                return Err(Refused::WrongKey);
            }
        };
        let principal = self.verifier.verify(&token).await.map_err(|error| {
            self.exchange.forget(&fingerprint);
            Problem::of_token(error)
        })?;
        self.count(is_sign_in, principal, Some(&token), client)
    }

    /// Counts a request of a caller with a token.
    fn count(
        &self,
        is_sign_in: bool,
        principal: Arc<Principal>,
        token: Option<&str>,
        client: ClientAddress,
    ) -> Result<Authenticated, Refused> {
        let class = Class::of(&principal);
        let authorization = token.and_then(|token| HeaderValue::try_from(format!("Bearer {token}")).ok());
        let authorization = authorization.map(|mut value| {
            value.set_sensitive(true);
            value
        });
        // With a token of their own, nobody guesses the passwords and addresses of others faster.
        let of_address = if is_sign_in && class != Class::Client {
            self.rates.take(Class::SignIn, RateKey::network(client.address))?
        } else {
            None
        };
        let rate_key = RateKey::Subject(principal.subject.clone());
        let level = self.rates.take(class, rate_key.clone())?;
        let level = of_address.or(level);
        Ok(Authenticated {
            principal: Some(principal),
            authorization,
            level,
            rate_key,
            has_ended: false,
            is_unknown: false,
        })
    }

    /// Counts a request of an address.
    fn count_address(&self, is_sign_in: bool, client: ClientAddress) -> Result<Authenticated, Refused> {
        let class = if is_sign_in { Class::SignIn } else { Class::Anonymous };
        let rate_key = RateKey::network(client.address);
        let level = self.rates.take(class, rate_key.clone())?;
        Ok(Authenticated { principal: None, authorization: None, level, rate_key, has_ended: false, is_unknown: false })
    }
}

/// 401 for Basic credentials.
pub(crate) fn wrong_key() -> Problem {
    let detail = "there is no device or client with this id and this key";
    Problem::new(CommonCode::Unauthenticated, detail).with_challenge("Basic realm=\"off\"")
}

fn credentials(headers: &HeaderMap) -> Credentials<'_> {
    let Some(value) = headers.get(header::AUTHORIZATION) else {
        return session_cookie::session_key(headers).map_or(Credentials::None, Credentials::Session);
    };
    match value.to_str().ok().and_then(|text| text.split_once(' ')) {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => Credentials::Bearer(token.trim_start()),
        Some((scheme, _)) if scheme.eq_ignore_ascii_case("basic") => Credentials::Basic(value),
        _ => Credentials::None,
    }
}

/// Refuses a path that names another person than the token, as one that names an unknown person.
pub(crate) fn check_person(path: &str, principal: &Principal) -> Result<(), Problem> {
    let Subject::Person(own) = principal.subject else { return Ok(()) };
    let Some(rest) = path.strip_prefix("/api/users/") else { return Ok(()) };
    // Decoded as the service decodes it. What is not a number is unknown there.
    let segment = percent_decode_str(rest.split('/').next().unwrap_or_default()).decode_utf8_lossy();
    match segment.parse::<i64>() {
        Ok(id) if id != own.0 && !principal.scopes.contains(Scope::Operate) => {
            Err(Problem::not_found(format!("there is no person {id}")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use off_events::UserId;
    use uuid::Uuid;

    fn principal(scopes: &[Scope]) -> Principal {
        let scopes = scopes.iter().copied().collect();
        Principal { subject: Subject::Person(UserId(17)), scopes, sid: Uuid::nil(), expires_at: 0 }
    }

    #[test]
    fn a_person_reaches_only_their_own_path() {
        let person = principal(&[Scope::Person]);
        for own in ["/api/users/17", "/api/users/%31%37", "/api/users/017", "/api/users/x", "/api/users", "/api/orders"]
        {
            assert!(check_person(own, &person).is_ok(), "{own}");
        }
        for other in ["/api/users/18", "/api/users/%318", "/api/users/+18", "/api/users/18/devices"] {
            assert!(check_person(other, &person).is_err(), "{other}");
        }
        assert!(check_person("/api/users/18", &principal(&[Scope::Person, Scope::Operate])).is_ok());
    }
}
