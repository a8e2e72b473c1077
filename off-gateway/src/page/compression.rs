//! Compression of what browsers load.

use axum::{
    body::{Body, to_bytes},
    extract::Request,
    http::{HeaderMap, HeaderValue, header},
    middleware::Next,
    response::Response,
};
use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use std::io::Write;

/// For files, which are compressed once.
pub(super) const BEST: Compression = Compression::best();

/// Smaller bodies fit into a packet as they are, in bytes.
const MIN_BYTES: usize = 1024;

/// No page is larger, in bytes.
const MAX_BYTES: usize = 4 * 1024 * 1024;

/// Whether a browser takes gzip.
pub(super) fn is_accepted(headers: &HeaderMap) -> bool {
    let lines = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).any(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        parts.next().is_some_and(|name| name.eq_ignore_ascii_case("gzip")) && parts.next() != Some("q=0")
    })
}

pub(super) fn gzip(body: &[u8], level: Compression) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 3), level);
    // Cannot fail: it writes into memory.
    let _ = encoder.write_all(body);
    encoder.finish().unwrap_or_default().into()
}

/// Compresses pages. Streams of events pass as they are.
pub(super) async fn compress(request: Request, next: Next) -> Response {
    let is_accepted = is_accepted(request.headers());
    let response = next.run(request).await;
    let is_page =
        response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"text/html"));
    if !is_page {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let body = to_bytes(body, MAX_BYTES).await.unwrap_or_default();
    parts.headers.append(header::VARY, HeaderValue::from_static("accept-encoding"));
    if !is_accepted || body.len() < MIN_BYTES {
        return Response::from_parts(parts, Body::from(body));
    }
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    Response::from_parts(parts, Body::from(gzip(&body, Compression::fast())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_used_only_if_the_browser_takes_it() {
        let accepted = |value: &'static str| {
            is_accepted(&HeaderMap::from_iter([(header::ACCEPT_ENCODING, HeaderValue::from_static(value))]))
        };
        assert!(accepted("gzip, deflate, br") && accepted("br;q=1.0, GZIP;q=0.5"));
        assert!(!accepted("br") && !accepted("gzip;q=0") && !accepted("") && !is_accepted(&HeaderMap::new()));
    }
}
