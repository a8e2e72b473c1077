//! Access tokens: who calls, and what they may do.
//!
//! An access token is a JWT of RFC 9068, signed with ES256 by the auth service. Every service verifies it by itself,
//! with the public keys that the auth service publishes; so a dead auth service stops nobody who has a valid token. A
//! service declares who may call a route in the `security` of the route's OpenAPI operation, and `http::serve` enforces
//! it.

mod claims;
mod key_set;
mod key_source;
mod opaque_key;
mod principal;
mod provider;
mod revocations;
mod row_access;
mod scope;
mod signing_key;
mod token_source;
mod verifier;

pub use claims::{AUDIENCE, Claims, LEEWAY, TOKEN_LIFETIME};
pub use jsonwebtoken::jwk::{Jwk, JwkSet};
pub use key_set::KeySet;
pub use opaque_key::{KeyDigest, OpaqueKey};
pub use principal::{Caller, InvalidSubject, Principal, Subject};
pub use row_access::{RowAccess, no_such_person};
pub use scope::{Scope, Scopes};
pub use signing_key::SigningKey;
pub use token_source::{Credentials, NoToken, TokenSource};
pub use verifier::{TokenError, Verifier};

use crate::telemetry::Metric;
use std::path::PathBuf;
use url::Url;

/// The metrics of this module.
pub(crate) const METRICS: [Metric; 2] = [
    Metric::counter("off_tokens_verified_total", "Tokens verified, by outcome; without those found in the cache"),
    Metric::gauge("off_revocations", "Revoked sessions and keys whose tokens have not expired"),
];

/// Where the keys are that verify tokens.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub struct Config {
    /// The URL of the public keys that verify access tokens.
    #[arg(
        long,
        env = "AUTH_JWKS_URL",
        value_name = "URL",
        default_value = "http://127.0.0.1:8085/.well-known/jwks.json"
    )]
    pub auth_jwks_url: Url,
    /// A file with the public keys, in place of the URL: a JSON Web Key Set, like a mounted secret. It is read again
    /// every few minutes.
    #[arg(long, env = "AUTH_KEYS_FILE", value_name = "FILE")]
    pub auth_keys_file: Option<PathBuf>,
    /// The issuer of access tokens, which every token names; the same for all services.
    #[arg(long, env = "AUTH_ISSUER", value_name = "URL", default_value = "http://localhost:8080")]
    pub auth_issuer: String,
}

impl Default for Config {
    fn default() -> Self {
        <Self as clap::FromArgMatches>::from_arg_matches(
            &<Self as clap::Args>::augment_args(clap::Command::new("off").no_binary_name(true))
                .get_matches_from([""; 0]),
        )
        .unwrap_or_else(|error| error.exit())
    }
}
