//! Verifies access tokens.

use super::{
    AUDIENCE, Claims, Config, KeySet, LEEWAY, Principal, key_source::KeySource, provider, revocations::Revocations,
    signing_key::TOKEN_TYPE,
};
use crate::{Bus, Clock, Kit};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use metrics::counter;
use quick_cache::sync::Cache;
use ring::digest::{SHA256, digest};
use std::sync::Arc;
use uuid::Uuid;

/// Maximum length of a token, in bytes. Longer ones are not looked at.
const MAX_TOKEN_BYTES: usize = 4096;

/// Maximum number of verified tokens in the cache. A signature costs a hundred times as much as a look-up.
const CACHED_TOKENS: usize = 20_000;

/// Why a token is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It is not a token of off for this audience, or its signature is wrong.
    #[error("the token is invalid")]
    Invalid,
    /// It has expired.
    #[error("the token has expired")]
    Expired,
    /// Its session or key was revoked.
    #[error("the session or key of the token has ended")]
    Revoked,
    /// The keys were not fetched yet.
    #[error("the keys that verify tokens are not known yet")]
    NoKeys,
}

impl TokenError {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
            Self::NoKeys => "no_keys",
        }
    }
}

/// A verified token in the cache.
#[derive(Debug, Clone)]
struct Verified {
    principal: Arc<Principal>,
    /// [`KeySet::removals`] when it was verified.
    removals: u64,
}

/// Verifies access tokens by the public keys of the auth service. Clones share the keys and the cache.
#[derive(Debug, Clone)]
pub struct Verifier {
    keys: KeySet,
    /// `None` in the auth service, which has the keys.
    source: Option<KeySource>,
    revocations: Revocations,
    validation: Arc<Validation>,
    /// By the SHA-256 of the token, so that no token is kept.
    cache: Arc<Cache<[u8; 32], Verified>>,
    clock: Clock,
}

impl Verifier {
    /// A verifier with the keys that the settings name. It fetches them in the background, follows the revocations, and
    /// adds a readiness check for each.
    pub fn start(kit: &Kit, bus: &Bus) -> anyhow::Result<Self> {
        let config = &kit.http.auth;
        let keys = KeySet::default();
        let source = KeySource::start(kit, config, &keys)?;
        Ok(Self { source: Some(source), ..Self::with_keys(kit, bus, keys) })
    }

    /// Whether this session or key was revoked, for those who checked a token of it before.
    pub fn is_revoked(&self, sid: Uuid) -> bool {
        self.revocations.contains(sid)
    }

    /// A verifier with keys that the caller keeps up to date.
    pub fn with_keys(kit: &Kit, bus: &Bus, keys: KeySet) -> Self {
        let checked = keys.clone();
        kit.readiness_checks.add("keys", move || {
            let is_empty = checked.is_empty();
            async move { if is_empty { Err(TokenError::NoKeys.to_string()) } else { Ok(()) } }
        });
        Self::new(&kit.http.auth, keys, Revocations::start(kit, bus), kit.clock)
    }

    fn new(config: &Config, keys: KeySet, revocations: Revocations, clock: Clock) -> Self {
        provider::install();
        let mut validation = Validation::new(Algorithm::ES256);
        validation.set_audience(&[AUDIENCE]);
        validation.set_issuer(&[&config.auth_issuer]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        // Times are compared with the clock of the service, below.
        validation.validate_exp = false;
        let cache = Arc::new(Cache::new(CACHED_TOKENS));
        Self { keys, source: None, revocations, validation: Arc::new(validation), cache, clock }
    }

    /// The caller that `token` names. An unknown key id makes it wait for a fetch of the keys.
    pub async fn verify(&self, token: &str) -> Result<Arc<Principal>, TokenError> {
        if let Some(known) = self.verify_known(token) {
            return known;
        }
        if token.len() > MAX_TOKEN_BYTES {
            return Err(TokenError::Invalid);
        }
        let removals = self.keys.removals();
        let verified = self.verify_signature(token).await;
        let outcome = verified.as_ref().map_or_else(|error| error.as_str(), |_| "valid");
        counter!("off_tokens_verified_total", "outcome" => outcome).increment(1);
        let principal = verified?;
        self.cache.insert(id_of(token), Verified { principal: principal.clone(), removals });
        self.check_alive(principal)
    }

    /// The caller that a token names whose signature was verified before; `None` for other tokens. It costs next to
    /// nothing.
    pub fn verify_known(&self, token: &str) -> Option<Result<Arc<Principal>, TokenError>> {
        if token.len() > MAX_TOKEN_BYTES {
            return None;
        }
        let removals = self.keys.removals();
        let verified = self.cache.get(&id_of(token)).filter(|verified| verified.removals == removals)?;
        Some(self.check_alive(verified.principal))
    }

    fn check_alive(&self, principal: Arc<Principal>) -> Result<Arc<Principal>, TokenError> {
        if principal.expires_at + LEEWAY.num_seconds() < self.clock.now().timestamp() {
            return Err(TokenError::Expired);
        }
        if self.revocations.contains(principal.sid) {
            return Err(TokenError::Revoked);
        }
        Ok(principal)
    }

    async fn verify_signature(&self, token: &str) -> Result<Arc<Principal>, TokenError> {
        let header = jsonwebtoken::decode_header(token).map_err(|_| TokenError::Invalid)?;
        let is_access_token = header.typ.as_deref().is_some_and(is_token_type);
        // A key in the token, or a reference to one, is ignored: `kid` selects one of the known keys.
        let kid = header.kid.filter(|_| is_access_token && header.crit.is_none()).ok_or(TokenError::Invalid)?;
        let key = self.find_key(&kid).await?;
        let claims =
            jsonwebtoken::decode::<Claims>(token, &key, &self.validation).map_err(|_| TokenError::Invalid)?.claims;
        let latest = (self.clock.now() + LEEWAY).timestamp();
        if claims.nbf.is_some_and(|not_before| not_before > latest) {
            return Err(TokenError::Invalid);
        }
        claims.principal().map(Arc::new).ok_or(TokenError::Invalid)
    }

    async fn find_key(&self, kid: &str) -> Result<DecodingKey, TokenError> {
        if let Some(key) = self.keys.get(kid) {
            return Ok(key);
        }
        if let Some(source) = &self.source {
            source.look_for(kid).await;
        }
        let missing = if self.keys.is_empty() { TokenError::NoKeys } else { TokenError::Invalid };
        self.keys.get(kid).ok_or(missing)
    }
}

/// The id of a token in the cache.
fn id_of(token: &str) -> [u8; 32] {
    let mut id = [0; 32];
    id.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
    id
}

/// Whether this is the type of access tokens, RFC 9068 section 4. Media types are case-insensitive.
fn is_token_type(typ: &str) -> bool {
    let typ = typ.to_ascii_lowercase();
    typ == TOKEN_TYPE || typ.strip_prefix("application/") == Some(TOKEN_TYPE)
}
