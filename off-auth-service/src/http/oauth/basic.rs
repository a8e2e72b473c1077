//! HTTP Basic with the credentials of a client, RFC 6749 section 2.3.1.

use super::error::{ErrorCode, OAuthError};
use axum::http::{HeaderMap, header};
use base64::{Engine, prelude::BASE64_STANDARD};
use url::form_urlencoded;

/// The id and the secret in the `Authorization` header; `None` without the header.
pub(super) fn basic_credentials(headers: &HeaderMap) -> Result<Option<(String, String)>, OAuthError> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(OAuthError::new(ErrorCode::InvalidRequest, "there is more than one Authorization header"));
    }
    let credentials = value.to_str().ok().and_then(parse);
    credentials.map(Some).ok_or_else(OAuthError::invalid_client)
}

/// Both parts are form-encoded before they are joined and encoded in Base64.
fn parse(value: &str) -> Option<(String, String)> {
    let (scheme, encoded) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(BASE64_STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (id, secret) = decoded.split_once(':')?;
    Some((form_decoded(id)?, form_decoded(secret)?))
}

/// Decodes one form-encoded value.
fn form_decoded(text: &str) -> Option<String> {
    // These would separate values.
    if text.contains(['&', '=']) {
        return Some(text.to_owned());
    }
    form_urlencoded::parse(text.as_bytes()).next().map(|(value, _)| value.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn basic(text: &str) -> Option<(String, String)> {
        parse(&format!("Basic {}", BASE64_STANDARD.encode(text)))
    }

    #[test]
    fn credentials_are_form_decoded_after_base64() {
        let credentials = |id: &str, secret: &str| Some((id.to_owned(), secret.to_owned()));
        assert_eq!(basic("generator:a-secret_with-usual.signs"), credentials("generator", "a-secret_with-usual.signs"));
        assert_eq!(basic("a%3Ab:p%25+%C3%BC:c"), credentials("a:b", "p% ü:c"));
        // Not encoded as it should be, and still meant as it is.
        assert_eq!(basic("generator:a=b&c"), credentials("generator", "a=b&c"));
    }

    #[test]
    fn other_headers_have_no_credentials() {
        for text in ["", "generator", ":", "generator:", ":secret"] {
            assert_eq!(basic(text), None, "{text}");
        }
        for header in ["", "Basic", "Basic !", "Bearer Z2VuZXJhdG9yOnNlY3JldA=="] {
            assert_eq!(parse(header), None, "{header}");
        }
        assert!(parse("basic Z2VuZXJhdG9yOnNlY3JldA==").is_some());
    }
}
