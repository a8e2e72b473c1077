//! Who looks at a page.

use super::failure::Failure;
use crate::{address::ClientAddress, rates::RateKey};
use axum::{
    extract::FromRequestParts,
    http::{HeaderName, HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse, Redirect, Response},
};
use off_events::UserId;
use off_kit::auth::{Principal, Subject};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use std::{convert::Infallible, net::Ipv4Addr, sync::Arc};

/// What the gateway knows about the sender of a request that it answers itself.
#[derive(Debug, Clone)]
pub(crate) struct Viewer {
    pub(crate) principal: Option<Arc<Principal>>,
    /// What the caller is counted by.
    pub(crate) rate_key: RateKey,
    pub(crate) client: ClientAddress,
    /// The id of the request.
    pub(crate) id: HeaderValue,
    /// Whether nobody knows now whose session it is, because the auth service does not answer.
    pub(crate) is_unknown: bool,
}

/// The sender of a request, and what services need to know about them.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    pub(crate) viewer: Viewer,
    pub(super) authorization: Option<HeaderValue>,
    pub(super) user_agent: Option<HeaderValue>,
}

impl Caller {
    /// The person who has signed in.
    pub(crate) fn person(&self) -> Option<UserId> {
        match self.viewer.principal.as_ref()?.subject {
            Subject::Person(id) => Some(id),
            Subject::Device(_) | Subject::Client(_) => None,
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let viewer = parts.extensions.get::<Viewer>().cloned().unwrap_or_else(Viewer::unknown);
        let header = |name| parts.headers.get(name).cloned();
        // A token that is not valid passes where none is needed; services must not see it.
        let authorization = viewer.principal.as_ref().and_then(|_| header(header::AUTHORIZATION));
        Ok(Self { viewer, authorization, user_agent: header(header::USER_AGENT) })
    }
}

/// A person who has signed in. Everybody else is sent to the sign-in, and comes back after it.
#[derive(Debug, Clone)]
pub(super) struct SignedIn(pub(super) Caller, pub(super) UserId);

const HX_REQUEST: HeaderName = HeaderName::from_static("hx-request");
const HX_REDIRECT: HeaderName = HeaderName::from_static("hx-redirect");

/// Everything that has a meaning in a query is encoded.
const IN_QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'_').remove(b'.');

impl<S: Sync> FromRequestParts<S> for SignedIn {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Response> {
        let Ok(caller) = <Caller as FromRequestParts<S>>::from_request_parts(parts, state).await;
        if let Some(person) = caller.person() {
            return Ok(Self(caller, person));
        }
        if caller.viewer.is_unknown {
            return Err(Failure::unavailable("auth").into_response());
        }
        // The path of a form is no page to come back to.
        let target = parts.uri.path_and_query().filter(|_| parts.method.is_safe());
        let next = target.map_or("/", |target| target.as_str());
        let sign_in = format!("/sign-in?next={}", utf8_percent_encode(next, IN_QUERY));
        // htmx would put the form of the sign-in into the page, or nothing.
        if parts.headers.contains_key(HX_REQUEST) {
            return Err((StatusCode::UNAUTHORIZED, [(HX_REDIRECT, sign_in)]).into_response());
        }
        Err(Redirect::to(&sign_in).into_response())
    }
}

impl Viewer {
    /// Somebody of whom nothing is known.
    fn unknown() -> Self {
        let client = ClientAddress { address: Ipv4Addr::UNSPECIFIED.into(), tls: false };
        let rate_key = RateKey::network(client.address);
        Self { principal: None, rate_key, client, id: HeaderValue::from_static("none"), is_unknown: false }
    }
}
