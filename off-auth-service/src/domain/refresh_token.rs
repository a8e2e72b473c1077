//! Refresh tokens. A token is derived from its session, so that a repeated request gets the same successor, and nothing
//! in the database is enough to make one.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use ring::hmac;
use std::fmt;
use uuid::Uuid;

/// The maximum length of a refresh token in bytes.
const MAX_LENGTH: usize = 128;

/// A refresh token that a client presents: `offr_<session>.<generation>.<mac>`. It need not be genuine.
#[derive(Clone, Copy)]
pub(crate) struct RefreshToken {
    pub(crate) session: Uuid,
    pub(crate) generation: i32,
    mac: [u8; 32],
}

/// Without the MAC.
impl fmt::Debug for RefreshToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { session, generation, .. } = self;
        f.debug_struct("RefreshToken").field("session", session).field("generation", generation).finish_non_exhaustive()
    }
}

impl RefreshToken {
    /// `None` if `text` has another form.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let text = text.strip_prefix("offr_").filter(|text| text.len() <= MAX_LENGTH)?;
        let [session, generation, mac] = text.split('.').collect::<Vec<_>>().try_into().ok()?;
        let session = Uuid::try_parse(session).ok().filter(|_| session.len() == 32)?;
        let generation = generation.parse().ok().filter(|generation| *generation >= 0)?;
        let mac = BASE64_URL_SAFE_NO_PAD.decode(mac).ok()?.try_into().ok()?;
        Some(Self { session, generation, mac })
    }
}

/// The key from which refresh tokens are derived.
#[derive(Debug)]
pub(crate) struct RefreshKey(hmac::Key);

impl RefreshKey {
    pub(crate) fn new(key: [u8; 32]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, &key))
    }

    /// The refresh token of a generation of a session.
    pub(crate) fn derive(&self, session: Uuid, generation: i32, salt: &[u8]) -> String {
        let mac = hmac::sign(&self.0, &signed(session, generation, salt));
        format!("offr_{}.{generation}.{}", session.simple(), BASE64_URL_SAFE_NO_PAD.encode(mac))
    }

    /// Whether this service made `token`, for the session with this salt. In constant time.
    pub(crate) fn is_genuine(&self, token: &RefreshToken, salt: &[u8]) -> bool {
        hmac::verify(&self.0, &signed(token.session, token.generation, salt), &token.mac).is_ok()
    }
}

/// All parts have a fixed length before the salt, so that no two inputs are equal.
fn signed(session: Uuid, generation: i32, salt: &[u8]) -> Vec<u8> {
    [session.as_bytes(), &generation.to_be_bytes()[..], salt].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_token_is_genuine_only_unchanged_and_with_its_key_and_salt() {
        let (key, session) = (RefreshKey::new([7; 32]), Uuid::from_u128(1));
        let text = key.derive(session, 3, b"salt");
        assert_eq!(text, key.derive(session, 3, b"salt"));
        let token = RefreshToken::parse(&text).unwrap();
        assert_eq!((token.session, token.generation), (session, 3));
        assert!(key.is_genuine(&token, b"salt") && !key.is_genuine(&token, b"another salt"));
        assert!(!RefreshKey::new([8; 32]).is_genuine(&token, b"salt"));
        for changed in [
            RefreshToken { generation: 4, ..token },
            RefreshToken { session: Uuid::from_u128(2), ..token },
            RefreshToken { mac: [0; 32], ..token },
        ] {
            assert!(!key.is_genuine(&changed, b"salt"), "{changed:?}");
        }
    }

    #[test]
    fn a_text_of_another_form_is_no_token() {
        let text = RefreshKey::new([7; 32]).derive(Uuid::nil(), 0, b"");
        for wrong in
            ["", "offr_", &text[5..], &format!("{text}."), &text.replace(".0.", ".-1."), &text[..text.len() - 1]]
        {
            assert!(RefreshToken::parse(wrong).is_none(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn parsing_never_panics(text in "(offr_)?\\PC{0,80}") {
            let _ = RefreshToken::parse(&text);
        }
    }
}
