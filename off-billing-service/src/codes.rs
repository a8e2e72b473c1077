//! The problem codes of this API, beside those that every service has.

use axum::http::StatusCode;
use off_kit::http::ProblemCode;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    IdempotencyKeyReused,
    InsufficientFunds,
    BalanceTooHigh,
}

impl Code {
    pub(crate) const NAMES: [&'static str; 3] =
        [Self::IdempotencyKeyReused.name(), Self::InsufficientFunds.name(), Self::BalanceTooHigh.name()];

    const fn name(self) -> &'static str {
        match self {
            Self::IdempotencyKeyReused => "idempotency_key_reused",
            Self::InsufficientFunds => "insufficient_funds",
            Self::BalanceTooHigh => "balance_too_high",
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
            Self::InsufficientFunds => StatusCode::PAYMENT_REQUIRED,
            Self::BalanceTooHigh => StatusCode::CONFLICT,
        }
    }
}
