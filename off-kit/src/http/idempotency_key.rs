//! The `Idempotency-Key` header of requests that clients repeat.

use super::{Problem, codes::CommonCode};
use crate::fields::FieldError;
use axum::{
    extract::{FromRequestParts, OptionalFromRequestParts},
    http::{HeaderMap, request::Parts},
};
use off_events::InvalidValue;

const NAME: &str = "idempotency-key";

/// A client's name for a request: the client can repeat the request with the same key, and it has its effect once.
/// A handler takes it, or an `Option` of it, as an argument.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyKey(String);

impl IdempotencyKey {
    /// The text of the key.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The key of a request, if it has one. Rejects more than one.
    fn of(headers: &HeaderMap) -> Result<Option<Self>, Problem> {
        let mut keys = headers.get_all(NAME).iter();
        let Some(key) = keys.next() else { return Ok(None) };
        if keys.next().is_some() {
            let detail = "a request may have at most one Idempotency-Key";
            return Err(Problem::new(CommonCode::RepeatedIdempotencyKey, detail));
        }
        let key = Self::try_from(key.as_bytes());
        key.map(Some).map_err(|error| Problem::invalid(vec![FieldError::new("Idempotency-Key", &error)]))
    }
}

impl TryFrom<&[u8]> for IdempotencyKey {
    type Error = InvalidValue;

    fn try_from(bytes: &[u8]) -> Result<Self, InvalidValue> {
        match std::str::from_utf8(bytes) {
            Ok(text) if (1..=255).contains(&text.len()) && bytes.iter().all(u8::is_ascii_graphic) => {
                Ok(Self(text.to_owned()))
            }
            _ => Err(InvalidValue("an Idempotency-Key is 1 to 255 visible ASCII characters")),
        }
    }
}

impl<S: Sync> FromRequestParts<S> for IdempotencyKey {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let missing = || Problem::invalid(vec![FieldError::new("Idempotency-Key", &"this header is missing")]);
        Self::of(&parts.headers)?.ok_or_else(missing)
    }
}

impl<S: Sync> OptionalFromRequestParts<S> for IdempotencyKey {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, Problem> {
        Self::of(&parts.headers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_key_is_1_to_255_visible_ascii_characters(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let valid = (1..=255).contains(&bytes.len()) && bytes.iter().all(|byte| (0x21..=0x7e).contains(byte));
            prop_assert_eq!(IdempotencyKey::try_from(&bytes[..]).is_ok(), valid);
        }
    }
}
