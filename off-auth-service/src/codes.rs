//! The problem codes of this API, beside those that every service has.

use axum::http::StatusCode;
use off_kit::http::ProblemCode;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    InvalidCredentials,
    TooManyAttempts,
    InvalidGrant,
    TooManyKeys,
}

impl Code {
    pub(crate) const NAMES: [&'static str; 4] = [
        Self::InvalidCredentials.name(),
        Self::TooManyAttempts.name(),
        Self::InvalidGrant.name(),
        Self::TooManyKeys.name(),
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::InvalidCredentials => "invalid_credentials",
            Self::TooManyAttempts => "too_many_attempts",
            Self::InvalidGrant => "invalid_grant",
            Self::TooManyKeys => "too_many_keys",
        }
    }
}

impl ProblemCode for Code {
    fn as_str(self) -> &'static str {
        self.name()
    }

    fn status(self) -> StatusCode {
        match self {
            Self::InvalidCredentials | Self::InvalidGrant => StatusCode::UNAUTHORIZED,
            Self::TooManyAttempts => StatusCode::TOO_MANY_REQUESTS,
            Self::TooManyKeys => StatusCode::CONFLICT,
        }
    }
}
