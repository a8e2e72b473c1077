//! The master secret, and the two keys that are derived from it.

use crate::domain::RefreshKey;
use anyhow::{Context, anyhow, ensure};
use off_kit::secret;
use ring::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    digest::{SHA256, digest},
    hkdf::{self, HKDF_SHA256, Salt},
    rand::{SecureRandom, SystemRandom},
};
use std::{fmt, path::Path};
use subtle::ConstantTimeEq;

/// Minimum number of characters of the master secret.
const MIN_LENGTH: usize = 32;

/// The keys of this service that are in no table.
pub(crate) struct Secrets {
    /// Derives refresh tokens.
    pub(crate) refresh: RefreshKey,
    sealing: LessSafeKey,
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secrets").finish_non_exhaustive()
    }
}

impl Secrets {
    /// The keys derived from the master secret in `file`.
    pub(crate) fn read(file: &Path) -> anyhow::Result<Self> {
        let master = secret::read(file).context("AUTH_SECRET_FILE")?;
        let is_long = master.chars().count() >= MIN_LENGTH;
        ensure!(is_long, "AUTH_SECRET_FILE: {} must have at least {MIN_LENGTH} characters", file.display());
        Self::derive(&master)
    }

    fn derive(master: &str) -> anyhow::Result<Self> {
        let prk = Salt::new(HKDF_SHA256, b"off auth").extract(master.as_bytes());
        let derive = |purpose: &[u8]| -> anyhow::Result<[u8; 32]> {
            let mut key = [0; 32];
            // Fails only for longer keys.
            let derived = prk.expand(&[purpose], HKDF_SHA256).and_then(|okm: hkdf::Okm<'_, _>| okm.fill(&mut key));
            derived.map(|()| key).map_err(|_| anyhow!("cannot derive a key"))
        };
        let sealing = UnboundKey::new(&AES_256_GCM, &derive(b"sealing of signing keys")?);
        let sealing = sealing.map_err(|_| anyhow!("cannot derive a key"))?;
        Ok(Self { refresh: RefreshKey::new(derive(b"refresh tokens")?), sealing: LessSafeKey::new(sealing) })
    }

    /// Encrypts the private half of a signing key; nobody can pass it off as that of another one.
    pub(crate) fn seal(&self, kid: &str, private: &[u8]) -> anyhow::Result<Vec<u8>> {
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).map_err(|_| anyhow!("the system provides no random numbers"))?;
        let mut sealed = private.to_vec();
        self.sealing
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(kid), &mut sealed)
            .map_err(|_| anyhow!("cannot seal a signing key"))?;
        Ok([&nonce[..], &sealed].concat())
    }

    /// The private half of the signing key `kid`; `None` if it was sealed with another master secret, or changed.
    pub(crate) fn open(&self, kid: &str, sealed: &[u8]) -> Option<Vec<u8>> {
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE_LEN>()?;
        let mut private = sealed.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let length = self.sealing.open_in_place(nonce, Aad::from(kid), &mut private).ok()?.len();
        private.truncate(length);
        Some(private)
    }
}

/// Random bytes that make the refresh tokens of a session unlike those of any other.
pub(crate) fn draw_salt() -> anyhow::Result<[u8; 16]> {
    let mut salt = [0; 16];
    SystemRandom::new().fill(&mut salt).map_err(|_| anyhow!("the system provides no random numbers"))?;
    Ok(salt)
}

/// Whether `stored` is the SHA-256 of `secret`, in constant time.
pub(crate) fn is_match(secret: &str, stored: &[u8]) -> bool {
    digest(&SHA256, secret.as_bytes()).as_ref().ct_eq(stored).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_matches_only_its_own_digest() {
        let stored = digest(&SHA256, b"a secret");
        assert!(is_match("a secret", stored.as_ref()));
        assert!(!is_match("a secret", &stored.as_ref()[..31]) && !is_match("another", stored.as_ref()));
    }

    #[test]
    fn a_sealed_key_opens_only_unchanged_under_its_own_id_and_secret() {
        let secrets = Secrets::derive("one master secret").unwrap();
        let sealed = secrets.seal("kid", b"private half").unwrap();
        assert!(!sealed.windows(7).any(|bytes| bytes == b"private"));
        assert_eq!(secrets.open("kid", &sealed).unwrap(), b"private half");
        assert_eq!(secrets.open("another kid", &sealed), None);
        assert_eq!(Secrets::derive("another master secret").unwrap().open("kid", &sealed), None);
        let mut changed = sealed.clone();
        changed[20] ^= 1;
        assert_eq!(secrets.open("kid", &changed), None);
        assert_eq!(secrets.open("kid", &sealed[..5]), None);
        // The same key is sealed differently each time: the nonce is random.
        assert_ne!(secrets.seal("kid", b"private half").unwrap(), sealed);
    }

    #[test]
    fn a_short_master_secret_is_rejected() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "x".repeat(31)).unwrap();
        assert!(Secrets::read(file.path()).unwrap_err().to_string().contains("AUTH_SECRET_FILE"));
        std::fs::write(file.path(), "x".repeat(32)).unwrap();
        assert!(Secrets::read(file.path()).is_ok());
    }
}
