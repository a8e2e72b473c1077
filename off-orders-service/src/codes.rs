//! The problem codes of this API, beside those that every service has.

use axum::http::StatusCode;
use off_kit::http::ProblemCode;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    IdempotencyKeyReused,
    PriceChanged,
    NotCancellable,
}

impl Code {
    pub(crate) const NAMES: [&'static str; 3] =
        [Self::IdempotencyKeyReused.name(), Self::PriceChanged.name(), Self::NotCancellable.name()];

    const fn name(self) -> &'static str {
        match self {
            Self::IdempotencyKeyReused => "idempotency_key_reused",
            Self::PriceChanged => "price_changed",
            Self::NotCancellable => "not_cancellable",
        }
    }
}

impl ProblemCode for Code {
    fn as_str(self) -> &'static str {
        self.name()
    }

    fn status(self) -> StatusCode {
        match self {
            Self::IdempotencyKeyReused => StatusCode::UNPROCESSABLE_ENTITY,
            Self::PriceChanged | Self::NotCancellable => StatusCode::CONFLICT,
        }
    }
}
