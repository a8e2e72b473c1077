//! Where a request comes from.

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use off_kit::http::Peer;
use std::net::IpAddr;

pub(crate) const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
pub(crate) const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
pub(crate) const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// The client's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ClientAddress {
    /// The address of the client.
    pub(crate) address: IpAddr,
    /// Whether the client uses TLS.
    pub(crate) tls: bool,
}

impl ClientAddress {
    /// The client of a request that came from `peer` through `proxies` trusted proxies. Each of these added the address
    /// of its own peer at the right; what is further left was written by the client.
    pub(crate) fn of(peer: Peer, headers: &HeaderMap, proxies: u8) -> Self {
        let direct = Self { address: peer.address, tls: peer.tls };
        let Some(index) = proxies.checked_sub(1) else { return direct };
        let is_last_https = last(headers, &FORWARDED_PROTO).map(|text| text.eq_ignore_ascii_case(b"https"));
        let tls = is_last_https.unwrap_or(direct.tls);
        let lines = headers.get_all(&FORWARDED_FOR).iter().rev();
        let mut entries = lines.flat_map(|line| entries(line).rev());
        let address = entries.nth(index.into()).and_then(|entry| str::from_utf8(entry).ok()?.parse::<IpAddr>().ok());
        Self { address: address.map_or(direct.address, |address| address.to_canonical()), tls }
    }

    /// The scheme of the client's URL.
    pub(crate) fn scheme(self) -> HeaderValue {
        HeaderValue::from_static(if self.tls { "https" } else { "http" })
    }
}

fn last<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a [u8]> {
    entries(headers.get_all(name).iter().next_back()?).next_back()
}

/// The entries of a line. It may have bytes that are not ASCII where the client wrote it.
fn entries(line: &HeaderValue) -> impl DoubleEndedIterator<Item = &[u8]> {
    line.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(lines: &[&'static str], proxies: u8) -> String {
        let peer = Peer { address: "192.0.2.1".parse().unwrap(), tls: false };
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(FORWARDED_FOR, HeaderValue::from_bytes(line.as_bytes()).unwrap());
        }
        ClientAddress::of(peer, &headers, proxies).address.to_string()
    }

    #[test]
    fn only_what_trusted_proxies_wrote_counts() {
        assert_eq!(address(&["203.0.113.9"], 0), "192.0.2.1");
        assert_eq!(address(&["6.6.6.6, 203.0.113.9"], 1), "203.0.113.9");
        assert_eq!(address(&["6.6.6.6", "203.0.113.9, 198.51.100.7"], 2), "203.0.113.9");
        assert_eq!(address(&["evil\u{ff}, 203.0.113.9"], 1), "203.0.113.9");
        assert_eq!(address(&["::ffff:203.0.113.9"], 1), "203.0.113.9");
        for unusable in [&["203.0.113.9"] as &[_], &["nonsense, 198.51.100.7"], &[]] {
            assert_eq!(address(unusable, 2), "192.0.2.1", "{unusable:?}");
        }
    }

    #[test]
    fn the_scheme_comes_from_the_nearest_proxy() {
        let peer = Peer { address: "192.0.2.1".parse().unwrap(), tls: false };
        let headers = HeaderMap::from_iter([(FORWARDED_PROTO, HeaderValue::from_static("http, https"))]);
        assert!(ClientAddress::of(peer, &headers, 1).tls);
        assert!(!ClientAddress::of(peer, &headers, 0).tls);
    }
}
