//! Credentials of simple clients: a device key, the secret of a client or the key of a browser's session, for which the
//! auth service has a token.

use crate::{
    address::{ClientAddress, FORWARDED_FOR},
    client::{self, HttpClient, in_memory},
    config::Base,
};
use anyhow::{Context, bail};
use axum::http::{HeaderValue, StatusCode, header, uri::PathAndQuery};
use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use hyper::Request;
use metrics::counter;
use off_kit::{
    Clock, Kit, LogLimit,
    auth::{OpaqueKey, Scope},
};
use quick_cache::sync::Cache;
use ring::digest::{SHA256, digest};
use serde::Deserialize;
use std::{sync::Arc, time::Duration};
use tracing::warn;

/// How many credentials are remembered with their token.
const CACHED: usize = 20_000;

/// A token is used until this long before it expires, in seconds.
const MARGIN: i64 = 30;

/// Timeout for the answer of the auth service.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Maximum size of the answer, in bytes.
const MAX_ANSWER_BYTES: usize = 16 * 1024;

/// Longer headers are not looked at, in bytes.
const MAX_HEADER_BYTES: usize = 512;

/// How keys and secrets of off begin. Others, like the passwords of people, are never sent on.
const PREFIXES: [&str; 3] = [OpaqueKey::DEVICE, OpaqueKey::CLIENT, OpaqueKey::SESSION];

/// Why there is no token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The credentials are wrong.
    Invalid,
    /// The auth service does not answer.
    Unavailable,
}

/// Basic credentials of off: a device key, the secret of a client or a session key, with the id that it belongs to.
pub(crate) struct BasicCredentials {
    /// The id and the secret.
    pair: String,
    /// The scope to ask for; without it, all.
    scope: Option<Scope>,
}

impl BasicCredentials {
    /// The credentials in an `Authorization` header, however it is spelled; `None` if they are not of off.
    pub(crate) fn of(header: &HeaderValue) -> Option<Self> {
        let (_, encoded) = header.to_str().ok().filter(|text| text.len() <= MAX_HEADER_BYTES)?.split_once(' ')?;
        let decoded = String::from_utf8(BASE64_STANDARD.decode(encoded.trim()).ok()?).ok()?;
        let (_, secret) = decoded.split_once(':')?;
        // Ids and keys need no form encoding (RFC 6749 section 2.3.1), which would give one key many spellings.
        let is_plain = !decoded.contains(['%', '+']);
        (is_plain && PREFIXES.iter().any(|prefix| secret.starts_with(prefix)))
            .then_some(Self { pair: decoded, scope: None })
    }

    /// The credentials that a session key stands for, for this scope or all; `None` if it is not one.
    pub(crate) fn of_session(key: &str, scope: Option<Scope>) -> Option<Self> {
        OpaqueKey::parse(OpaqueKey::SESSION, key).map(|_| Self { pair: format!("session:{key}"), scope })
    }

    /// The body of the request for a token, RFC 6749 section 4.4.2.
    fn form(&self) -> String {
        let scope = self.scope.map(|scope| format!("&scope={}", scope.as_str())).unwrap_or_default();
        format!("grant_type=client_credentials{scope}")
    }

    /// SHA-256 of the credentials and the scope: they are not kept.
    pub(crate) fn fingerprint(&self) -> Fingerprint {
        let mut fingerprint = [0; 32];
        fingerprint.copy_from_slice(digest(&SHA256, format!("{} {}", self.form(), self.pair).as_bytes()).as_ref());
        fingerprint
    }

    fn header(&self) -> anyhow::Result<HeaderValue> {
        let mut header = HeaderValue::try_from(format!("Basic {}", BASE64_STANDARD.encode(&self.pair)))?;
        header.set_sensitive(true);
        Ok(header)
    }
}

/// SHA-256 of credentials.
pub(crate) type Fingerprint = [u8; 32];

/// Has tokens for Basic credentials.
#[derive(Debug)]
pub(crate) struct Exchange {
    client: HttpClient,
    auth: Base,
    tokens: Cache<Fingerprint, Token>,
    clock: Clock,
    log_limit: LogLimit,
}

/// Not `Debug`: it has the token.
#[derive(Clone)]
struct Token {
    text: Arc<str>,
    expires_at: i64,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Token").field("expires_at", &self.expires_at).finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
struct Answer {
    access_token: String,
    expires_in: i64,
}

impl Exchange {
    pub(crate) fn new(kit: &Kit, client: HttpClient, auth: Base) -> Self {
        Self { client, auth, tokens: Cache::new(CACHED), clock: kit.clock, log_limit: LogLimit::default() }
    }

    /// The token that is known for these credentials.
    pub(crate) fn known(&self, fingerprint: &Fingerprint) -> Option<Arc<str>> {
        let token = self.tokens.get(fingerprint)?;
        if token.expires_at - MARGIN <= self.clock.now().timestamp() {
            self.forget(fingerprint);
            return None;
        }
        counter!("off_gateway_exchanges_total", "from" => "cache").increment(1);
        Some(token.text)
    }

    /// Forgets a token that is no longer accepted.
    pub(crate) fn forget(&self, fingerprint: &Fingerprint) {
        self.tokens.remove(fingerprint);
    }

    /// A new token for credentials. Concurrent calls for the same credentials ask once.
    pub(crate) async fn fetch(&self, basic: &BasicCredentials, client: ClientAddress) -> Result<Arc<str>, Refusal> {
        let asked = self.tokens.get_or_insert_async(&basic.fingerprint(), self.ask(basic, client)).await;
        asked.map(|token| token.text)
    }

    async fn ask(&self, basic: &BasicCredentials, client: ClientAddress) -> Result<Token, Refusal> {
        counter!("off_gateway_exchanges_total", "from" => "auth").increment(1);
        match self.request(basic, client).await {
            Ok(Some(token)) => Ok(token),
            Ok(None) => Err(Refusal::Invalid),
            Err(error) => {
                if let Some(suppressed) = self.log_limit.admit() {
                    warn!(suppressed, "the auth service gives no token for Basic credentials: {error:#}");
                }
                Err(Refusal::Unavailable)
            }
        }
    }

    /// RFC 6749 section 4.4. `None` if the credentials are wrong.
    async fn request(&self, basic: &BasicCredentials, from: ClientAddress) -> anyhow::Result<Option<Token>> {
        let mut request = Request::post(self.auth.join(PathAndQuery::from_static("/oauth/token")))
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(FORWARDED_FOR, from.address.to_string())
            .body(in_memory(Bytes::from(basic.form())))?;
        request.headers_mut().insert(header::AUTHORIZATION, basic.header()?);
        let answer = client::send(&self.client, request, MAX_ANSWER_BYTES, self.clock.shortened(TIMEOUT)).await?;
        match answer.status() {
            StatusCode::OK => {}
            StatusCode::UNAUTHORIZED | StatusCode::BAD_REQUEST => return Ok(None),
            status => bail!("it answered {status}"),
        }
        // The error of the parser could repeat the token.
        let answer: Option<Answer> = serde_json::from_slice(answer.body()).ok();
        let answer = answer.context("its answer has no token")?;
        let expires_at = self.clock.now().timestamp() + answer.expires_in;
        Ok(Some(Token { text: answer.access_token.into(), expires_at }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn basic(text: &str) -> HeaderValue {
        HeaderValue::try_from(format!("Basic {}", BASE64_STANDARD.encode(text))).unwrap()
    }

    #[test]
    fn only_keys_of_off_are_sent_on() {
        for of_off in ["ssd-7:offd_abc", "generator:offs_abc", "session:offk_abc"] {
            assert!(BasicCredentials::of(&basic(of_off)).is_some(), "{of_off}");
        }
        for wrong in ["ada@example.org:my password", "offd_abc", "offs_x:", "ssd-7:offd_%61bc", "ssd-7:offd_a+c"] {
            assert!(BasicCredentials::of(&basic(wrong)).is_none(), "{wrong}");
        }
        assert!(BasicCredentials::of(&HeaderValue::from_static("Basic %%%")).is_none());
    }

    #[test]
    fn all_spellings_of_the_same_credentials_are_one() {
        let first = basic("ssd-7:offd_abc");
        let fingerprint = |header: &HeaderValue| BasicCredentials::of(header).unwrap().fingerprint();
        let spelled = first.to_str().unwrap().replace("Basic ", "bAsIC    ") + "  ";
        assert_eq!(fingerprint(&HeaderValue::try_from(spelled).unwrap()), fingerprint(&first));
        assert_ne!(fingerprint(&basic("ssd-8:offd_abc")), fingerprint(&first));
    }
}
