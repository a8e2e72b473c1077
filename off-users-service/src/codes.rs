//! The problem codes of this API, beside those that every service has.

use axum::http::StatusCode;
use off_kit::http::ProblemCode;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    EmailTaken,
    MacAddressTaken,
    TooManyDevices,
    ShelfFull,
}

impl Code {
    pub(crate) const NAMES: [&'static str; 4] =
        [Self::EmailTaken.name(), Self::MacAddressTaken.name(), Self::TooManyDevices.name(), Self::ShelfFull.name()];

    const fn name(self) -> &'static str {
        match self {
            Self::EmailTaken => "email_taken",
            Self::MacAddressTaken => "mac_address_taken",
            Self::TooManyDevices => "too_many_devices",
            Self::ShelfFull => "shelf_full",
        }
    }
}

impl ProblemCode for Code {
    fn as_str(self) -> &'static str {
        self.name()
    }

    fn status(self) -> StatusCode {
        match self {
            Self::EmailTaken | Self::MacAddressTaken | Self::TooManyDevices | Self::ShelfFull => StatusCode::CONFLICT,
        }
    }
}
