//! The problem codes of this API, beside those that every service has.

use axum::http::StatusCode;
use off_kit::http::ProblemCode;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    RepeatedIdempotencyKey,
    IdempotencyKeyReused,
}

impl Code {
    pub(crate) const NAMES: [&'static str; 2] =
        [Self::RepeatedIdempotencyKey.name(), Self::IdempotencyKeyReused.name()];

    const fn name(self) -> &'static str {
        match self {
            Self::RepeatedIdempotencyKey => "repeated_idempotency_key",
            Self::IdempotencyKeyReused => "idempotency_key_reused",
        }
    }
}

impl ProblemCode for Code {
    fn as_str(self) -> &'static str {
        self.name()
    }

    fn status(self) -> StatusCode {
        match self {
            Self::RepeatedIdempotencyKey => StatusCode::BAD_REQUEST,
            Self::IdempotencyKeyReused => StatusCode::UNPROCESSABLE_ENTITY,
        }
    }
}
