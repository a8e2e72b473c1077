//! A private key that signs tokens.

use super::{Claims, provider};
use anyhow::Context;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use jsonwebtoken::{
    Algorithm, EncodingKey, Header,
    jwk::{
        AlgorithmParameters, CommonParameters, EllipticCurve, EllipticCurveKeyParameters, EllipticCurveKeyType, Jwk,
        KeyAlgorithm, PublicKeyUse, ThumbprintHash,
    },
};
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
};
use std::fmt;

/// The type of access tokens, RFC 9068.
pub(super) const TOKEN_TYPE: &str = "at+jwt";

/// A private key that signs access tokens with ES256.
#[derive(Clone)]
pub struct SigningKey {
    private: EncodingKey,
    jwk: Jwk,
    kid: String,
}

/// Without the private key.
impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("kid", &self.kid).finish_non_exhaustive()
    }
}

impl SigningKey {
    /// A new key, and its private half as PKCS #8.
    pub fn generate() -> anyhow::Result<(Self, Vec<u8>)> {
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new());
        let document = document.map_err(|_| anyhow::anyhow!("cannot generate a signing key"))?;
        Ok((Self::from_pkcs8(document.as_ref())?, document.as_ref().to_vec()))
    }

    /// The key with this private half.
    pub fn from_pkcs8(pkcs8: &[u8]) -> anyhow::Result<Self> {
        provider::install();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8, &SystemRandom::new());
        let pair = pair.map_err(|error| anyhow::anyhow!("not a private key on P-256: {error}"))?;
        let mut jwk = public_jwk(pair.public_key().as_ref()).context("not an uncompressed point on P-256")?;
        let kid = jwk.thumbprint(ThumbprintHash::SHA256)?;
        jwk.common.key_id = Some(kid.clone());
        Ok(Self { private: EncodingKey::from_ec_der(pkcs8), jwk, kid })
    }

    /// The id of the key: its RFC 7638 thumbprint.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// The public half.
    pub fn jwk(&self) -> &Jwk {
        &self.jwk
    }

    /// An access token with these claims.
    pub fn sign(&self, claims: &Claims) -> anyhow::Result<String> {
        let typ = Some(TOKEN_TYPE.to_owned());
        let header = Header { typ, kid: Some(self.kid.clone()), ..Header::new(Algorithm::ES256) };
        jsonwebtoken::encode(&header, claims, &self.private).context("cannot sign a token")
    }
}

/// The public key from its uncompressed point: 4, x and y (SEC 1, section 2.3.3).
fn public_jwk(point: &[u8]) -> Option<Jwk> {
    let (x, y) = point.strip_prefix(&[4])?.split_at_checked(32)?;
    let parameters = EllipticCurveKeyParameters {
        key_type: EllipticCurveKeyType::EC,
        curve: EllipticCurve::P256,
        x: BASE64_URL_SAFE_NO_PAD.encode(x),
        y: BASE64_URL_SAFE_NO_PAD.encode(y),
    };
    let common = CommonParameters {
        public_key_use: Some(PublicKeyUse::Signature),
        key_algorithm: Some(KeyAlgorithm::ES256),
        ..CommonParameters::default()
    };
    Some(Jwk { common, algorithm: AlgorithmParameters::EllipticCurve(parameters) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_of_a_key_is_the_thumbprint_of_its_public_half() {
        let (key, pkcs8) = SigningKey::generate().unwrap();
        assert_eq!(SigningKey::from_pkcs8(&pkcs8).unwrap().kid(), key.kid());
        let jwk = serde_json::to_value(key.jwk()).unwrap();
        let text = format!(r#"{{"crv":"P-256","kty":"EC","x":{},"y":{}}}"#, jwk["x"], jwk["y"]);
        let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
        assert_eq!(BASE64_URL_SAFE_NO_PAD.encode(digest), key.kid());
        assert_eq!((&jwk["alg"], &jwk["use"], &jwk["kid"]), (&"ES256".into(), &"sig".into(), &key.kid().into()));
        assert!(jwk.get("d").is_none() && !format!("{key:?}").contains("private"));
    }
}
