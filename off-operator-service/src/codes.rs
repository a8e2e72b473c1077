//! The problem codes of this API, beside those that every service has.

use axum::http::StatusCode;
use off_kit::http::ProblemCode;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    AlreadyRunning,
    TruncatedBody,
    WrongSubject,
    FaultsNotAllowed,
}

impl Code {
    pub(crate) const NAMES: [&'static str; 4] = [
        Self::AlreadyRunning.name(),
        Self::TruncatedBody.name(),
        Self::WrongSubject.name(),
        Self::FaultsNotAllowed.name(),
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::AlreadyRunning => "already_running",
            Self::TruncatedBody => "truncated_body",
            Self::WrongSubject => "wrong_subject",
            Self::FaultsNotAllowed => "faults_not_allowed",
        }
    }
}

impl ProblemCode for Code {
    fn as_str(self) -> &'static str {
        self.name()
    }

    fn status(self) -> StatusCode {
        match self {
            Self::AlreadyRunning | Self::TruncatedBody | Self::WrongSubject => StatusCode::CONFLICT,
            Self::FaultsNotAllowed => StatusCode::FORBIDDEN,
        }
    }
}
