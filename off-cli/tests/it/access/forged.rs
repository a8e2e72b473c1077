//! Tokens that no service may accept.

use super::system::Owner;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use off_events::UserId;
use off_kit::auth::{Claims, Scope, SigningKey, Subject};
use off_testkit::tokens;
use ring::hmac;
use serde_json::{Value, json};

/// The claims of a valid token of a person.
fn claims(owner: &Owner) -> Claims {
    tokens::claims(&Subject::Person(UserId(owner.user_id)), &[Scope::Person, Scope::Operate, Scope::Simulate])
}

fn header() -> Value {
    let kid = tokens::public_key().common.key_id.unwrap();
    json!({"alg": "ES256", "typ": "at+jwt", "kid": kid})
}

/// A token with a changed header or changed claims, and a right signature.
pub(super) fn signed(owner: &Owner, change: impl FnOnce(&mut Value, &mut Value)) -> String {
    let (mut header, mut claims) = (header(), serde_json::to_value(claims(owner)).unwrap());
    change(&mut header, &mut claims);
    tokens::sign_as(&header, &claims)
}

/// A token like the forged ones that is valid.
pub(super) fn valid(owner: &Owner) -> String {
    signed(owner, |_, _| {})
}

/// A token like a valid one, signed with a key that nobody published.
pub(super) fn by_a_stranger(owner: &Owner) -> String {
    SigningKey::generate().unwrap().0.sign(&claims(owner)).unwrap()
}

/// The header and the claims of a token, without the signature.
fn unsigned(header: &Value, claims: &Claims) -> String {
    let encode = |text: String| BASE64_URL_SAFE_NO_PAD.encode(text);
    format!("{}.{}", encode(header.to_string()), encode(serde_json::to_string(claims).unwrap()))
}

/// Each with its name. `keys` are the published keys.
pub(super) fn tokens(owner: &Owner, keys: &Value) -> Vec<(&'static str, String)> {
    let claims = claims(owner);
    let hs256 = unsigned(&json!({"alg": "HS256", "typ": "at+jwt", "kid": header()["kid"]}), &claims);
    let published = keys["keys"][0].to_string();
    let mac = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, published.as_bytes()), hs256.as_bytes());
    let valid = valid(owner);
    let (message, signature) = valid.rsplit_once('.').unwrap();
    let mut other = claims.clone();
    "user:1".clone_into(&mut other.sub);
    let tampered = format!("{}.{signature}", unsigned(&header(), &other));
    let (stranger, _) = SigningKey::generate().unwrap();
    let mut with_own_key = header();
    with_own_key["jwk"] = serde_json::to_value(stranger.jwk()).unwrap();
    vec![
        ("expired", signed(owner, |_, claims| claims["exp"] = json!(1_700_000_000))),
        ("not valid yet", signed(owner, |_, claims| claims["nbf"] = json!(4_000_000_000_i64))),
        ("wrong audience", signed(owner, |_, claims| claims["aud"] = json!("elsewhere"))),
        ("wrong issuer", signed(owner, |_, claims| claims["iss"] = json!("https://evil.example"))),
        ("without an audience", signed(owner, |_, claims| drop(claims.as_object_mut().unwrap().remove("aud")))),
        ("an ID token", signed(owner, |header, _| header["typ"] = json!("JWT"))),
        ("without a type", signed(owner, |header, _| drop(header.as_object_mut().unwrap().remove("typ")))),
        ("without a key id", signed(owner, |header, _| drop(header.as_object_mut().unwrap().remove("kid")))),
        ("an unknown extension", signed(owner, |header, _| header["crit"] = json!(["off"]))),
        ("an unknown subject", signed(owner, |_, claims| claims["sub"] = json!("root:1"))),
        ("signed by a stranger", stranger.sign(&claims).unwrap()),
        ("with a key of its own", format!("{}.{signature}", unsigned(&with_own_key, &claims))),
        ("alg none", format!("{}.", unsigned(&json!({"alg": "none", "typ": "at+jwt"}), &claims))),
        ("HS256 with the public key", format!("{hs256}.{}", BASE64_URL_SAFE_NO_PAD.encode(mac.as_ref()))),
        ("tampered", tampered),
        ("cut", format!("{message}.{}", &signature[..signature.len() - 4])),
        ("no token", "offd_not_a_token".to_owned()),
    ]
}
