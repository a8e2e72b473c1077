//! Limits what the clients of one network hold at the same time, so that one of them cannot take everything.

use std::{
    collections::HashMap,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::{Arc, Mutex, PoisonError},
};

/// The network of a client: an IPv4 address, or the /56 of an IPv6 address, which providers give to one customer
/// (RFC 6177).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Network(u128);

impl Network {
    /// The network of `address`.
    pub fn of(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V4(address) => address.to_bits().into(),
            IpAddr::V6(address) => address.to_bits() >> 72 << 72,
        })
    }
}

/// Like `192.0.2.7` or `2001:db8::/56`.
impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match u32::try_from(self.0) {
            Ok(bits) => write!(f, "{}", Ipv4Addr::from_bits(bits)),
            Err(_) => write!(f, "{}/56", Ipv6Addr::from_bits(self.0)),
        }
    }
}

/// How much each network may hold at the same time. Clones share the counts.
#[derive(Debug, Clone)]
pub struct NetworkLimit {
    /// `None` for no limit.
    max: Option<usize>,
    held: Arc<Mutex<HashMap<Network, usize>>>,
}

/// A place that a network holds, until it is dropped.
#[derive(Debug)]
pub struct Held {
    network: Network,
    limit: NetworkLimit,
}

impl NetworkLimit {
    /// At most `max` for each network; 0 for no limit.
    pub fn new(max: usize) -> Self {
        Self { max: Some(max).filter(|max| *max > 0), held: Arc::default() }
    }

    /// Takes a place for `network`; `None` if it holds as many as it may.
    pub fn enter(&self, network: Network) -> Option<Held> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let count = held.entry(network).or_default();
        if self.max.is_some_and(|max| *count >= max) {
            return None;
        }
        *count += 1;
        Some(Held { network, limit: self.clone() })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut held = self.limit.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = held.get_mut(&self.network) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.network);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(address: &str) -> Network {
        Network::of(address.parse().unwrap())
    }

    #[test]
    fn a_network_holds_only_its_share() {
        let limit = NetworkLimit::new(2);
        let (one, other) = (network("192.0.2.1"), network("192.0.2.2"));
        let held = [limit.enter(one), limit.enter(one)];
        assert!(held.iter().all(Option::is_some) && limit.enter(one).is_none() && limit.enter(other).is_some());
        drop(held);
        assert!(limit.enter(one).is_some() && limit.held.lock().unwrap().is_empty());
    }

    #[test]
    fn an_ipv6_client_has_one_network() {
        assert_eq!(network("2001:db8::1"), network("2001:db8::ffff:1"));
        assert_eq!(network("2001:db8::1"), network("2001:db8:0:ff::1"));
        assert_ne!(network("2001:db8::1"), network("2001:db8:0:100::1"));
        assert_eq!(network("::ffff:192.0.2.1"), network("192.0.2.1"));
        assert_eq!(network("2001:db8::ffff:1").to_string(), "2001:db8::/56");
        assert_eq!(network("::ffff:192.0.2.1").to_string(), "192.0.2.1");
    }
}
