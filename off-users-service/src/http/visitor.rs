//! Where a request comes from, for the security log and for the sign-in of new people.

use crate::domain::Visitor;
use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, header, request::Parts},
};
use std::{convert::Infallible, net::IpAddr};

/// Longer names of clients are cut.
const MAX_USER_AGENT_LENGTH: usize = 200;

impl<S: Sync> FromRequestParts<S> for Visitor {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let text = |name| parts.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let user_agent = text(header::USER_AGENT).chars().take(MAX_USER_AGENT_LENGTH).collect();
        Ok(Self { address: address(&parts.headers), user_agent })
    }
}

/// The address that the gateway saw. Only the gateway reaches this service, and it replaces the header.
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
        let forwarded =
            |text: &str| HeaderMap::from_iter([("x-forwarded-for".parse().unwrap(), text.parse().unwrap())]);
        for (header, expected) in [
            ("192.0.2.7", "192.0.2.7"),
            ("203.0.113.9, 192.0.2.7", "192.0.2.7"),
            ("2001:db8::1", "2001:db8::1"),
            ("<script>", ""),
            ("", ""),
        ] {
            assert_eq!(address(&forwarded(header)), expected, "{header}");
        }
        assert_eq!(address(&HeaderMap::new()), "");
    }
}
