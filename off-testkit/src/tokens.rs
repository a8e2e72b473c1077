//! Access tokens of a test, signed with a key of its own that the services accept.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use off_events::{SsdId, UserId};
use off_kit::auth::{Claims, Config, Jwk, JwkSet, Scope, SigningKey, Subject};
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair},
};
use serde_json::Value;
use std::{io::Write, path::PathBuf, sync::LazyLock};
use tempfile::NamedTempFile;
use uuid::Uuid;

/// The key that signs the tokens of this process, with its private half, and a file with its public half.
static KEY: LazyLock<(SigningKey, Vec<u8>, NamedTempFile)> = LazyLock::new(|| {
    let (key, pkcs8) = SigningKey::generate().expect("a key can be generated");
    let mut file = NamedTempFile::new().expect("a temporary file");
    let jwks = JwkSet { keys: vec![key.jwk().clone()] };
    let jwks = serde_json::to_vec(&jwks).expect("a key set is JSON");
    file.write_all(&jwks).expect("the key set can be written");
    (key, pkcs8, file)
});

/// The public key that verifies the tokens of this process.
pub fn public_key() -> Jwk {
    KEY.0.jwk().clone()
}

/// The file with the public key, for the setting `AUTH_KEYS_FILE`.
pub fn keys_file() -> PathBuf {
    KEY.2.path().to_owned()
}

/// The settings of a service that accepts the tokens of this process.
pub fn auth_config() -> Config {
    Config { auth_keys_file: Some(keys_file()), ..Config::default() }
}

/// The claims of a token of `subject` with these scopes, which is valid for ten minutes; for tests that change them.
pub fn claims(subject: &Subject, scopes: &[Scope]) -> Claims {
    let now = off_kit::Clock::real(1.0).now();
    Claims::new(&Config::default().auth_issuer, subject, Uuid::new_v4(), scopes.iter().copied().collect(), now)
}

/// A token with these claims.
pub fn sign(claims: &Claims) -> String {
    KEY.0.sign(claims).expect("the token can be signed")
}

/// A token with this header and these claims, which need not be those of an access token.
pub fn sign_as(header: &Value, claims: &Value) -> String {
    let encode = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let message = format!("{}.{}", encode(header), encode(claims));
    let random = SystemRandom::new();
    let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &KEY.1, &random).expect("the key is valid");
    let signature = key.sign(&random, message.as_bytes()).expect("the token can be signed");
    format!("{message}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
}

/// A token of `subject` with these scopes.
pub fn token(subject: &Subject, scopes: &[Scope]) -> String {
    sign(&claims(subject, scopes))
}

/// A token of a client that simulates households and may read everything; the devices of tests are simulated. It is
/// valid for three years, because tests move the clocks of services.
pub fn test_client() -> String {
    let mut claims = claims(&Subject::Client("test".to_owned()), &[Scope::Simulate, Scope::Operate]);
    claims.exp += 3 * 365 * 24 * 3600;
    sign(&claims)
}

/// A token of a person.
pub fn person(id: i64) -> String {
    token(&Subject::Person(UserId(id)), &[Scope::Person])
}

/// A token of a device.
pub fn device(id: i64) -> String {
    token(&Subject::Device(SsdId(id)), &[Scope::Device])
}
