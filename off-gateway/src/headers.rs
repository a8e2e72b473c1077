//! Which headers go through the gateway, and which it writes itself.

use crate::{
    address::{ClientAddress, FORWARDED_FOR, FORWARDED_HOST, FORWARDED_PROTO},
    codes::Code,
};
use axum::http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Version,
    header::{self, Entry},
};
use off_kit::http::{MAX_HEAD_BYTES, Problem};
use uuid::Uuid;

pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
pub(crate) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Headers of one hop, RFC 9110 section 7.6.1, beside those that `Connection` names.
const HOP_BY_HOP: [HeaderName; 9] = [
    header::CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// What the gateway decides by itself: nobody else may tell services where a request comes from or what it means.
const REMOVED: [HeaderName; 10] = [
    header::EXPECT,
    header::FORWARDED,
    header::HOST,
    // The length is that of the body as it is forwarded.
    header::CONTENT_LENGTH,
    HeaderName::from_static("http2-settings"),
    HeaderName::from_static("x-http-method"),
    HeaderName::from_static("x-http-method-override"),
    HeaderName::from_static("x-method-override"),
    HeaderName::from_static("x-original-url"),
    HeaderName::from_static("x-real-ip"),
];

/// Prefixes of further such headers.
const REMOVED_PREFIXES: [&str; 2] = ["x-forwarded-", "x-off-"];

const MAX_ID_LENGTH: usize = 64;

/// Refuses a request whose head is too large, or could be read in more than one way.
pub(crate) fn check<B>(request: &Request<B>) -> Result<(), Problem> {
    let ambiguous = |detail: &str| Err(Problem::new(Code::AmbiguousRequest, detail));
    let headers = request.headers();
    // The server refuses a head that has not arrived completely at this size. One that arrives at once passes there.
    if head_size(request) > MAX_HEAD_BYTES {
        return Err(Problem::new(Code::HeadTooLarge, "the request line and the headers are too large"));
    }
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() || (host.is_none() && request.version() == Version::HTTP_11) {
        return ambiguous("a request has exactly one Host header");
    }
    if let Some(authority) = request.uri().authority()
        && host.is_none_or(|host| !host.as_bytes().eq_ignore_ascii_case(authority.as_str().as_bytes()))
    {
        return ambiguous("the request line names another host than the Host header");
    }
    let chunked = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"chunked");
    let codings: Vec<_> = headers.get_all(header::TRANSFER_ENCODING).iter().collect();
    if !(codings.is_empty() || codings.len() == 1 && codings.iter().all(|value| chunked(value))) {
        return ambiguous("the only transfer encoding is chunked");
    }
    if headers.get_all(header::AUTHORIZATION).iter().count() > 1 {
        return ambiguous("a request has at most one Authorization header");
    }
    Ok(())
}

/// The size of the request line and the headers, in bytes, without spaces that mean nothing.
fn head_size<B>(request: &Request<B>) -> usize {
    let (target, method) = (request.uri(), request.method().as_str());
    let authority = target.authority().map_or(0, |authority| authority.as_str().len());
    let path = target.path_and_query().map_or(0, |path| path.as_str().len());
    let line = method.len() + authority + path + "  HTTP/1.1\r\n".len();
    let header = |(name, value): (&HeaderName, &HeaderValue)| name.as_str().len() + value.len() + ": \r\n".len();
    line + request.headers().iter().map(header).sum::<usize>() + "\r\n".len()
}

/// Whether the client wants the connection to become a WebSocket. No other protocol passes.
pub(crate) fn wants_websocket<B>(request: &Request<B>) -> bool {
    let headers = request.headers();
    let is_named = headers.get(header::UPGRADE).is_some_and(|name| name.as_bytes().eq_ignore_ascii_case(b"websocket"));
    is_named && request.method() == Method::GET && connection_options(headers).any(|option| option == "upgrade")
}

/// The options that `Connection` names, in lower case.
fn connection_options(headers: &HeaderMap) -> impl Iterator<Item = String> {
    let lines = headers.get_all(header::CONNECTION).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(|option| option.trim().to_ascii_lowercase())
}

/// Removes the headers of one hop.
pub(crate) fn remove_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(header::CONNECTION) {
        let named: Vec<String> = connection_options(headers).collect();
        for name in named.iter().filter(|name| !matches!(name.as_str(), "close" | "keep-alive" | "upgrade" | "")) {
            headers.remove(name.as_str());
        }
    }
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
}

/// Makes the headers of a request those that its service receives.
pub(crate) fn prepare_request(
    headers: &mut HeaderMap,
    client: ClientAddress,
    id: &HeaderValue,
    traceparent: Option<&str>,
) {
    remove_hop_by_hop(headers);
    let host = headers.remove(header::HOST);
    for name in &REMOVED {
        headers.remove(name);
    }
    let is_removed = |name: &HeaderName| REMOVED_PREFIXES.iter().any(|prefix| name.as_str().starts_with(prefix));
    let removed: Vec<HeaderName> = headers.keys().filter(|name| is_removed(name)).cloned().collect();
    for name in &removed {
        headers.remove(name);
    }
    if let Ok(address) = HeaderValue::try_from(client.address.to_string()) {
        headers.insert(FORWARDED_FOR, address);
    }
    headers.insert(FORWARDED_PROTO, client.scheme());
    if let Some(host) = host {
        headers.insert(FORWARDED_HOST, host);
    }
    headers.insert(REQUEST_ID, id.clone());
    if let Some(traceparent) = traceparent.and_then(|text| HeaderValue::try_from(text).ok()) {
        headers.insert(off_events::headers::TRACEPARENT, traceparent);
    }
}

/// The id of a request: the client's, if it is one that a log may hold, or a new one.
pub(crate) fn request_id(headers: &HeaderMap) -> HeaderValue {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
    let given = headers.get(REQUEST_ID).filter(|id| {
        let id = id.as_bytes();
        !id.is_empty() && id.len() <= MAX_ID_LENGTH && id.iter().all(is_plain)
    });
    // Cannot fail: a UUID is visible ASCII.
    given.cloned().unwrap_or_else(|| {
        HeaderValue::try_from(Uuid::now_v7().to_string()).unwrap_or_else(|_| HeaderValue::from_static("none"))
    })
}

/// What browsers may do with an answer.
const API_CONTENT: HeaderValue = HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");

const PERMISSIONS_POLICY: HeaderName = HeaderName::from_static("permissions-policy");

/// Nothing here needs what a page could ask a person for.
const PERMISSIONS: HeaderValue = HeaderValue::from_static(
    "accelerometer=(), camera=(), display-capture=(), geolocation=(), gyroscope=(), magnetometer=(), microphone=(), \
     payment=(), usb=()",
);

/// Swagger UI has inline styles and images.
const DOCS_CONTENT: HeaderValue = HeaderValue::from_static(
    "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; object-src 'none'; base-uri 'none'; \
     frame-ancestors 'none'",
);

/// Adds to an answer what browsers should know. A page has its own policies.
pub(crate) fn secure_response(headers: &mut HeaderMap, path: &str, client: ClientAddress) {
    let is_docs = path == "/docs" || path.starts_with("/docs/");
    if let Entry::Vacant(vacant) = headers.entry(header::CONTENT_SECURITY_POLICY) {
        vacant.insert(if is_docs { DOCS_CONTENT } else { API_CONTENT });
    }
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    if let Entry::Vacant(vacant) = headers.entry(header::REFERRER_POLICY) {
        vacant.insert(HeaderValue::from_static("no-referrer"));
    }
    headers.insert(PERMISSIONS_POLICY, PERMISSIONS);
    if client.tls {
        headers.insert(header::STRICT_TRANSPORT_SECURITY, HeaderValue::from_static("max-age=31536000"));
    }
    // Personal data does not belong into shared caches; a service that knows better says so.
    if path.starts_with("/api/")
        && let Entry::Vacant(vacant) = headers.entry(header::CACHE_CONTROL)
    {
        vacant.insert(HeaderValue::from_static("no-store"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(headers: &[(&'static str, &'static str)]) -> Request<()> {
        let mut request = Request::get("/api/orders").body(()).unwrap();
        for (name, value) in headers {
            request.headers_mut().append(*name, HeaderValue::from_static(value));
        }
        request
    }

    fn prepared(headers: &[(&'static str, &'static str)]) -> HeaderMap {
        let client = ClientAddress { address: "192.0.2.1".parse().unwrap(), tls: false };
        let mut headers = request(headers).headers().clone();
        prepare_request(&mut headers, client, &HeaderValue::from_static("id"), None);
        headers
    }

    #[test]
    fn headers_of_one_hop_and_spoofed_ones_stay_behind() {
        let headers = prepared(&[
            ("host", "off.example.org"),
            ("connection", "close, X-Secret"),
            ("x-secret", "1"),
            ("te", "trailers"),
            ("upgrade", "h2c"),
            ("http2-settings", "x"),
            ("forwarded", "for=6.6.6.6"),
            ("x-forwarded-for", "6.6.6.6"),
            ("x-forwarded-prefix", "/admin"),
            ("x-real-ip", "6.6.6.6"),
            ("x-off-user", "1"),
            ("x-http-method-override", "DELETE"),
            ("authorization", "Bearer t"),
        ]);
        let mut names: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        let expected = ["authorization", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-request-id"];
        assert_eq!(names, expected);
        assert!(headers["x-forwarded-for"] == "192.0.2.1" && headers["x-forwarded-host"] == "off.example.org");
    }

    #[test]
    fn a_head_with_two_meanings_is_refused() {
        assert!(check(&request(&[("host", "a")])).is_ok());
        for wrong in [
            &[] as &[_],
            &[("host", "a"), ("host", "a")],
            &[("host", "a"), ("transfer-encoding", "gzip, chunked")],
            &[("host", "a"), ("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")],
            &[("host", "a"), ("authorization", "Bearer a"), ("authorization", "Bearer b")],
        ] {
            assert!(check(&request(wrong)).is_err(), "{wrong:?}");
        }
        let mut absolute = request(&[("host", "a")]);
        *absolute.uri_mut() = "http://b/api/orders".parse().unwrap();
        assert!(check(&absolute).is_err());
        *absolute.uri_mut() = "http://A/api/orders".parse().unwrap();
        assert!(check(&absolute).is_ok());
    }

    #[test]
    fn only_a_websocket_may_replace_http() {
        assert!(wants_websocket(&request(&[("connection", "keep-alive, Upgrade"), ("upgrade", "WebSocket")])));
        assert!(!wants_websocket(&request(&[("connection", "upgrade"), ("upgrade", "h2c")])));
        assert!(!wants_websocket(&request(&[("upgrade", "websocket")])));
    }

    #[test]
    fn a_request_id_that_could_forge_log_lines_is_replaced() {
        let id = |text| request_id(request(&[("x-request-id", text)]).headers());
        assert_eq!(id("Run-7_a.b"), "Run-7_a.b");
        for wrong in ["", "a b", "a\"b", "{}"] {
            assert_eq!(id(wrong).len(), 36, "{wrong}");
        }
    }
}
