//! The stable codes of problems. `docs/api-design.md` lists them, and a test compares it with the code.

use axum::http::StatusCode;

/// A code that programs can rely on. Each service has an enum of its own codes, beside [`CommonCode`].
pub trait ProblemCode: Copy {
    /// The code as the response has it.
    fn as_str(self) -> &'static str;
    /// The status of every problem with this code.
    fn status(self) -> StatusCode;
}

/// The codes that every service has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommonCode {
    /// The body is not JSON.
    MalformedJson,
    /// The body could not be read to its end.
    UnreadableBody,
    /// A query parameter is invalid.
    InvalidQuery,
    /// The request has more than one `Idempotency-Key`.
    RepeatedIdempotencyKey,
    /// The request has no valid token; `WWW-Authenticate` says what is missing.
    Unauthenticated,
    /// The token does not allow this.
    Forbidden,
    /// There is no such path or resource.
    NotFound,
    /// The path does not support the method.
    MethodNotAllowed,
    /// The body is above the size limit.
    TooLarge,
    /// The content type is not JSON.
    NotJson,
    /// The body is compressed.
    UnsupportedEncoding,
    /// The `Host` header names an unknown host.
    UnknownHost,
    /// The body is JSON with invalid fields, which the problem lists.
    InvalidBody,
    /// An unexpected error; its cause is only in the log.
    Internal,
    /// A temporary condition; `Retry-After` says when to try again.
    Unavailable,
}

impl CommonCode {
    /// All of them, as responses have them.
    pub(super) const ALL: [Self; 15] = [
        Self::MalformedJson,
        Self::UnreadableBody,
        Self::InvalidQuery,
        Self::RepeatedIdempotencyKey,
        Self::Unauthenticated,
        Self::Forbidden,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::TooLarge,
        Self::NotJson,
        Self::UnsupportedEncoding,
        Self::UnknownHost,
        Self::InvalidBody,
        Self::Internal,
        Self::Unavailable,
    ];
}

impl ProblemCode for CommonCode {
    fn as_str(self) -> &'static str {
        match self {
            Self::MalformedJson => "malformed_json",
            Self::UnreadableBody => "unreadable_body",
            Self::InvalidQuery => "invalid_query",
            Self::RepeatedIdempotencyKey => "repeated_idempotency_key",
            Self::Unauthenticated => "unauthenticated",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not_found",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::TooLarge => "too_large",
            Self::NotJson => "not_json",
            Self::UnsupportedEncoding => "unsupported_encoding",
            Self::UnknownHost => "unknown_host",
            Self::InvalidBody => "invalid_body",
            Self::Internal => "internal",
            Self::Unavailable => "unavailable",
        }
    }

    fn status(self) -> StatusCode {
        match self {
            Self::MalformedJson | Self::UnreadableBody | Self::InvalidQuery | Self::RepeatedIdempotencyKey => {
                StatusCode::BAD_REQUEST
            }
            Self::Unauthenticated => StatusCode::UNAUTHORIZED,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::NotJson | Self::UnsupportedEncoding => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::UnknownHost => StatusCode::MISDIRECTED_REQUEST,
            Self::InvalidBody => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}
