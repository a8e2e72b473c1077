//! Where a request comes from, for lists of sessions and the security log.

use super::Network;
use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, header, request::Parts},
};
use std::{convert::Infallible, net::IpAddr};

/// Longer names of clients are cut.
const MAX_USER_AGENT_LENGTH: usize = 200;

/// Where a request comes from, as the gateway and the client say. A handler takes it as an argument.
#[derive(Debug, Clone, Default)]
pub struct RequestSource {
    /// The client's address; empty if unknown.
    pub address: String,
    /// What the client calls itself; empty if unknown.
    pub user_agent: String,
}

impl RequestSource {
    /// The network of the address; empty if unknown.
    pub fn network(&self) -> String {
        self.address.parse().map(|address| Network::of(address).to_string()).unwrap_or_default()
    }
}

impl<S: Sync> FromRequestParts<S> for RequestSource {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let text = |name| parts.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let user_agent = text(header::USER_AGENT).chars().take(MAX_USER_AGENT_LENGTH).collect();
        Ok(Self { address: address(&parts.headers), user_agent })
    }
}

/// The address that the gateway saw. Only the gateway reaches a service, and it replaces the header.
fn address(headers: &HeaderMap) -> String {
    let forwarded = headers.get("x-forwarded-for").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let last = forwarded.rsplit(',').next().unwrap_or_default().trim();
    last.parse().map(|address: IpAddr| address.to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_the_last_one_and_only_an_address() {
        for (header, expected) in [
            ("192.0.2.7", "192.0.2.7"),
            ("203.0.113.9, 192.0.2.7", "192.0.2.7"),
            ("2001:db8::1", "2001:db8::1"),
            ("<script>", ""),
            ("", ""),
        ] {
            let headers = HeaderMap::from_iter([("x-forwarded-for".parse().unwrap(), header.parse().unwrap())]);
            assert_eq!(address(&headers), expected, "{header}");
        }
        assert_eq!(address(&HeaderMap::new()), "");
    }
}
