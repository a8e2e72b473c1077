//! The names a service answers to. A page in a browser can send requests to this machine under a name of its own that it lets
//! point here (DNS rebinding), and would then be allowed to read the answers. It cannot do so under an IP address or a loopback name.

use super::problem::Problem;
use axum::response::{IntoResponse, Response};
use futures::future::Either;
use hyper::{
    Request, StatusCode,
    body::Incoming,
    header::{self, HeaderMap},
    http::uri::Authority,
    service::Service,
};
use std::{
    convert::Infallible,
    future::{Ready, ready},
    net::IpAddr,
    sync::Arc,
};

/// The names a service answers to.
#[derive(Debug, Clone, Default, clap::Args)]
#[group(skip)]
pub struct Hosts {
    /// The host names that requests may name, beside IP addresses and loopback names, separated by commas; `*` is any.
    #[arg(long, env = "HTTP_HOSTS", value_name = "NAMES", value_delimiter = ',', value_parser = parse_host)]
    pub http_hosts: Vec<String>,
}

fn parse_host(text: &str) -> Result<String, String> {
    let name = text.trim().to_ascii_lowercase();
    // A name that is empty is none, as in a list that is put together from several.
    let is_name = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
    if name == "*" || is_name {
        Ok(name)
    } else {
        Err("expected host names without a scheme or a port, like off.example.org, or *".to_owned())
    }
}

impl Hosts {
    fn know(&self, host: &str) -> bool {
        let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(&host);
        host == "localhost"
            || host.ends_with(".localhost")
            || address.parse::<IpAddr>().is_ok()
            || self.http_hosts.iter().any(|known| known == "*" || *known == host)
    }

    /// Whether a request names nobody else. One without a host is of no browser.
    fn allow<B>(&self, request: &Request<B>) -> bool {
        let in_target = request.uri().host();
        in_target.is_none_or(|host| self.know(host)) && self.allow_headers(request.headers())
    }

    fn allow_headers(&self, headers: &HeaderMap) -> bool {
        headers.get_all(header::HOST).iter().all(|value| {
            let authority = value.to_str().ok().and_then(|value| value.parse::<Authority>().ok());
            authority.is_some_and(|authority| self.know(authority.host()))
        })
    }
}

/// Lets only requests to known hosts through to what is inside.
#[derive(Debug, Clone)]
pub(super) struct KnownHosts<S> {
    inside: S,
    hosts: Arc<Hosts>,
}

impl<S> KnownHosts<S> {
    pub(super) fn new(hosts: Hosts, inside: S) -> Self {
        Self { inside, hosts: Arc::new(hosts) }
    }
}

impl<S> Service<Request<Incoming>> for KnownHosts<S>
where
    S: Service<Request<Incoming>, Response = Response, Error = Infallible>,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Either<Ready<Result<Response, Infallible>>, S::Future>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        if self.hosts.allow(&request) {
            return Either::Right(self.inside.call(request));
        }
        let detail = "this service does not answer to that host name; the setting HTTP_HOSTS lists those it answers to";
        Either::Left(ready(Ok(Problem::new(StatusCode::MISDIRECTED_REQUEST, "unknown_host", detail).into_response())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(target: &str, hosts: &[&str]) -> Request<()> {
        let request = hosts.iter().fold(Request::get(target), |request, host| request.header(header::HOST, *host));
        request.body(()).unwrap()
    }

    #[test]
    fn loopback_names_addresses_and_listed_names_are_known() {
        let hosts = Hosts { http_hosts: vec!["off.example.org".to_owned()] };
        for host in ["localhost", "LOCALHOST:8082", "localhost.", "off.localhost:1", "127.0.0.1:8082", "[::1]:8082"] {
            assert!(Hosts::default().allow(&request("/", &[host])), "{host}");
        }
        assert!(hosts.allow(&request("/", &["Off.Example.org:443"])));
        assert!(Hosts::default().allow(&request("/", &[])));
        assert!(Hosts { http_hosts: vec!["*".to_owned()] }.allow(&request("/", &["anything.example"])));
    }

    #[test]
    fn another_name_is_refused_wherever_it_stands() {
        let hosts = Hosts { http_hosts: vec!["off.example.org".to_owned()] };
        for wrong in [
            request("/", &["evil.example"]),
            request("/", &["localhost", "evil.example"]),
            request("/", &["localhost.evil.example"]),
            request("/", &["off.example.org.evil.example"]),
            request("/", &["127.0.0.1.evil.example"]),
            request("/", &["a b"]),
            request("/", &[""]),
            request("/", &[":80"]),
            request("http://evil.example/", &["localhost"]),
        ] {
            assert!(!hosts.allow(&wrong), "{wrong:?}");
        }
    }

    #[test]
    fn a_setting_that_is_no_list_of_names_is_refused() {
        assert_eq!(parse_host(" Off.example.org").as_deref(), Ok("off.example.org"));
        assert!(parse_host("*").is_ok() && parse_host("").is_ok());
        for wrong in ["http://off.example.org", "off.example.org:80", "*.example.org", "a b"] {
            assert!(parse_host(wrong).is_err(), "{wrong}");
        }
    }
}
