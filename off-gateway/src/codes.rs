//! The problem codes of the gateway, beside those that every service has.

use axum::http::StatusCode;
use off_kit::http::ProblemCode;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    /// The path could be read in more than one way.
    InvalidPath,
    /// The head of the request is ambiguous.
    AmbiguousRequest,
    /// The head of the request is too large.
    HeadTooLarge,
    /// The setting CORS_ORIGINS does not list the origin of the page.
    OriginNotAllowed,
    /// A page of another site caused a request with the cookie of a session.
    CrossSite,
    /// The body arrived too slowly.
    BodyTooSlow,
    /// Too many requests of this caller.
    RateLimited,
    /// A service broke off its answer.
    UpstreamFailed,
    /// A service did not answer in time.
    UpstreamLate,
}

impl Code {
    pub(crate) const NAMES: [&'static str; 9] = [
        Self::InvalidPath.name(),
        Self::AmbiguousRequest.name(),
        Self::HeadTooLarge.name(),
        Self::OriginNotAllowed.name(),
        Self::CrossSite.name(),
        Self::BodyTooSlow.name(),
        Self::RateLimited.name(),
        Self::UpstreamFailed.name(),
        Self::UpstreamLate.name(),
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::InvalidPath => "invalid_path",
            Self::AmbiguousRequest => "ambiguous_request",
            Self::HeadTooLarge => "head_too_large",
            Self::OriginNotAllowed => "origin_not_allowed",
            Self::CrossSite => "cross_site",
            Self::BodyTooSlow => "body_too_slow",
            Self::RateLimited => "rate_limited",
            Self::UpstreamFailed => "upstream_failed",
            Self::UpstreamLate => "upstream_late",
        }
    }
}

impl ProblemCode for Code {
    fn as_str(self) -> &'static str {
        self.name()
    }

    fn status(self) -> StatusCode {
        match self {
            Self::InvalidPath | Self::AmbiguousRequest => StatusCode::BAD_REQUEST,
            Self::HeadTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::OriginNotAllowed | Self::CrossSite => StatusCode::FORBIDDEN,
            Self::BodyTooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::RateLimited => StatusCode::TOO_MANY_REQUESTS,
            Self::UpstreamFailed => StatusCode::BAD_GATEWAY,
            Self::UpstreamLate => StatusCode::GATEWAY_TIMEOUT,
        }
    }
}
