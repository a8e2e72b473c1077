//! The public keys that verify tokens.

use super::provider;
use jsonwebtoken::{
    DecodingKey,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk},
};
use std::{
    collections::HashMap,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

/// The public keys that verify tokens, by their ids. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct KeySet {
    keys: Arc<RwLock<HashMap<String, DecodingKey>>>,
    /// How often a key left the set. Cached tokens of an earlier number are verified again.
    removals: Arc<AtomicU64>,
}

/// A set of keys without a usable one. It does not replace the current set.
#[derive(Debug, thiserror::Error)]
#[error("the key set has no ES256 key with an id")]
pub struct NoUsableKeys;

impl KeySet {
    /// Replaces all keys. Keys of other kinds are left out. A set without a usable key changes nothing, because it
    /// would make every token invalid.
    pub fn replace(&self, jwks: &[Jwk]) -> Result<(), NoUsableKeys> {
        provider::install();
        let new: HashMap<String, DecodingKey> = jwks.iter().filter_map(usable).collect();
        if new.is_empty() {
            return Err(NoUsableKeys);
        }
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        let is_removal = keys.keys().any(|kid| !new.contains_key(kid));
        *keys = new;
        if is_removal {
            self.removals.fetch_add(1, Ordering::Release);
        }
        Ok(())
    }

    /// Whether there are no keys yet.
    pub fn is_empty(&self) -> bool {
        self.keys.read().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    pub(super) fn get(&self, kid: &str) -> Option<DecodingKey> {
        self.keys.read().unwrap_or_else(PoisonError::into_inner).get(kid).cloned()
    }

    pub(super) fn removals(&self) -> u64 {
        self.removals.load(Ordering::Acquire)
    }
}

/// The id and the key, if it is a P-256 key with an id.
fn usable(jwk: &Jwk) -> Option<(String, DecodingKey)> {
    let is_p256 = matches!(&jwk.algorithm, AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256);
    let kid = jwk.common.key_id.clone().filter(|_| is_p256)?;
    Some((kid, DecodingKey::from_jwk(jwk).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::SigningKey;

    #[test]
    fn an_empty_set_never_replaces_keys_and_a_removed_key_is_noticed() {
        let (one, other) = (SigningKey::generate().unwrap().0, SigningKey::generate().unwrap().0);
        let keys = KeySet::default();
        keys.replace(&[one.jwk().clone()]).unwrap();
        assert!(keys.replace(&[]).is_err() && keys.get(one.kid()).is_some());
        keys.replace(&[one.jwk().clone(), other.jwk().clone()]).unwrap();
        assert_eq!(keys.removals(), 0);
        keys.replace(&[other.jwk().clone()]).unwrap();
        assert!(keys.removals() == 1 && keys.get(one.kid()).is_none() && keys.get(other.kid()).is_some());
    }
}
