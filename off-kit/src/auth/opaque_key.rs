//! Keys that the system draws, for devices, programs and the sessions of browsers.

use anyhow::anyhow;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use ring::{
    digest::{SHA256, digest},
    rand::{SecureRandom, SystemRandom},
};
use std::fmt;
use uuid::Uuid;

/// Random bytes in a key. So many cannot be guessed, so a fast hash protects the stored key.
const RANDOM_BYTES: usize = 32;

/// Hex digits of the id in a key.
const ID_DIGITS: usize = 32;

/// The SHA-256 of a key's text, which is all that the database knows of the secret.
pub type KeyDigest = [u8; 32];

/// The key of a device, the secret of a program or the key of a session: a prefix, its id as 32 hex digits, `_`, and 32 random bytes as
/// base64url. The prefix lets secret scanners find a key that leaked.
pub struct OpaqueKey {
    id: Uuid,
    text: String,
}

/// Without the text.
impl fmt::Debug for OpaqueKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpaqueKey").field("id", &self.id).finish_non_exhaustive()
    }
}

impl OpaqueKey {
    /// The prefix of device keys.
    pub const DEVICE: &'static str = "offd_";
    /// The prefix of client secrets.
    pub const CLIENT: &'static str = "offs_";
    /// The prefix of session keys.
    pub const SESSION: &'static str = "offk_";

    /// A new key.
    ///
    /// # Errors
    /// The operating system has no random numbers.
    pub fn generate(prefix: &str, id: Uuid) -> anyhow::Result<Self> {
        let mut secret = [0; RANDOM_BYTES];
        SystemRandom::new().fill(&mut secret).map_err(|_| anyhow!("the operating system has no random numbers"))?;
        Ok(Self { id, text: format!("{prefix}{}_{}", id.simple(), BASE64_URL_SAFE_NO_PAD.encode(secret)) })
    }

    /// The id and the digest of a key, by which its row is found; `None` if the text is not a key with this prefix.
    pub fn parse(prefix: &str, text: &str) -> Option<(Uuid, KeyDigest)> {
        let (id_digits, rest) = text.strip_prefix(prefix)?.split_at_checked(ID_DIGITS)?;
        let id = Uuid::try_parse(id_digits).ok().filter(|id| id.simple().to_string() == id_digits)?;
        let secret = BASE64_URL_SAFE_NO_PAD.decode(rest.strip_prefix('_')?).ok()?;
        (secret.len() == RANDOM_BYTES).then(|| (id, sha256(text)))
    }

    /// The id.
    pub fn id(&self) -> Uuid {
        self.id
    }

    /// The whole key, which is shown once and stored nowhere.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The digest of the whole key, to be stored.
    pub fn sha256(&self) -> KeyDigest {
        sha256(&self.text)
    }
}

fn sha256(text: &str) -> KeyDigest {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_recognised_by_its_id_and_digest() {
        let id = Uuid::from_u128(0x2032);
        let key = OpaqueKey::generate(OpaqueKey::DEVICE, id).unwrap();
        assert_eq!(key.text().len(), "offd_".len() + 32 + 1 + 43);
        assert!(key.text().starts_with("offd_00000000000000000000000000002032_"), "{}", key.text());
        assert_eq!(OpaqueKey::parse(OpaqueKey::DEVICE, key.text()), Some((id, key.sha256())));
        let other = OpaqueKey::generate(OpaqueKey::DEVICE, id).unwrap();
        assert_ne!(key.sha256(), other.sha256());
        let secret = key.text().rsplit_once("2032_").unwrap().1;
        assert!(!format!("{key:?}").contains(secret));
    }

    #[test]
    fn other_texts_are_no_keys() {
        let key = OpaqueKey::generate(OpaqueKey::DEVICE, Uuid::from_u128(0xab)).unwrap();
        let text = key.text();
        assert_eq!(OpaqueKey::parse(OpaqueKey::CLIENT, text), None);
        for wrong in [
            String::new(),
            "offd_".to_owned(),
            text[..text.len() - 1].to_owned(),
            format!("{text}A"),
            format!("{text}="),
            text.replace("ab_", "AB_"),
            text.replace("ab_", "ab-"),
            format!("offd_é{}", &text[7..]),
        ] {
            assert_eq!(OpaqueKey::parse(OpaqueKey::DEVICE, &wrong), None, "{wrong}");
        }
    }
}
