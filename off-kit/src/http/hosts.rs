//! The allowed `Host` names, as protection against DNS rebinding: a web page can make its own host name resolve to this
//! machine, send requests to it from a browser and read the responses. It cannot do so with an IP address or a loopback
//! name.

use super::{codes::CommonCode, problem::Problem};
use axum::response::{IntoResponse, Response};
use futures::future::Either;
use hyper::{
    Request,
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

/// The host names that a service accepts.
#[derive(Debug, Clone, Default, clap::Args)]
#[group(skip)]
pub struct Hosts {
    /// The allowed host names of requests, separated by commas; `*` allows all. IP addresses and loopback names are
    /// always allowed.
    #[arg(long, env = "HTTP_HOSTS", value_name = "NAMES", value_delimiter = ',', value_parser = parse_host)]
    pub http_hosts: Vec<String>,
}

fn parse_host(text: &str) -> Result<String, String> {
    let name = text.trim().to_ascii_lowercase();
    let name = name.strip_suffix('.').unwrap_or(&name).to_owned();
    // An empty name is allowed, because a list that is joined from several may contain one.
    let is_name = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
    if name == "*" || is_name {
        Ok(name)
    } else {
        Err("expected host names without a scheme or a port, like off.example.org, or *".to_owned())
    }
}

impl Hosts {
    fn is_known(&self, host: &str) -> bool {
        let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(&host);
        host == "localhost"
            || host.ends_with(".localhost")
            || address.parse::<IpAddr>().is_ok()
            || self.http_hosts.iter().any(|known| known == "*" || (*known == host && !host.is_empty()))
    }

    /// Whether all host names of a request are known. A request without a host name does not come from a browser.
    fn allow<B>(&self, request: &Request<B>) -> bool {
        let in_target = request.uri().host();
        in_target.is_none_or(|host| self.is_known(host)) && self.allow_headers(request.headers())
    }

    fn allow_headers(&self, headers: &HeaderMap) -> bool {
        headers.get_all(header::HOST).iter().all(|value| {
            let authority = value.to_str().ok().and_then(|value| value.parse::<Authority>().ok());
            // RFC 9110 allows no userinfo in a Host header.
            authority.is_some_and(|authority| !authority.as_str().contains('@') && self.is_known(authority.host()))
        })
    }
}

/// Middleware that passes only requests for known hosts to `inner`.
#[derive(Debug, Clone)]
pub(super) struct KnownHosts<S> {
    inner: S,
    hosts: Arc<Hosts>,
}

impl<S> KnownHosts<S> {
    pub(super) fn new(hosts: Hosts, inner: S) -> Self {
        Self { inner, hosts: Arc::new(hosts) }
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
            return Either::Right(self.inner.call(request));
        }
        let detail = "this service does not accept that host name; the setting HTTP_HOSTS lists those it accepts";
        Either::Left(ready(Ok(Problem::new(CommonCode::UnknownHost, detail).into_response())))
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
    fn loopback_names_addresses_and_listed_names_are_allowed() {
        let hosts = Hosts { http_hosts: vec!["off.example.org".to_owned()] };
        for host in ["localhost", "LOCALHOST:8082", "localhost.", "off.localhost:1", "127.0.0.1:8082", "[::1]:8082"] {
            assert!(Hosts::default().allow(&request("/", &[host])), "{host}");
        }
        assert!(hosts.allow(&request("/", &["Off.Example.org:443"])));
        assert!(Hosts::default().allow(&request("/", &[])));
        assert!(Hosts { http_hosts: vec!["*".to_owned()] }.allow(&request("/", &["anything.example"])));
    }

    #[test]
    fn an_unknown_host_name_is_rejected_in_any_position() {
        let hosts = Hosts { http_hosts: vec!["off.example.org".to_owned(), String::new()] };
        for wrong in [
            request("/", &["evil.example"]),
            request("/", &["localhost", "evil.example"]),
            request("/", &["localhost.evil.example"]),
            request("/", &["off.example.org.evil.example"]),
            request("/", &["127.0.0.1.evil.example"]),
            request("/", &["a b"]),
            request("/", &[""]),
            request("/", &["evil.example@localhost"]),
            request("/", &[":80"]),
            request("http://evil.example/", &["localhost"]),
        ] {
            assert!(!hosts.allow(&wrong), "{wrong:?}");
        }
    }

    #[test]
    fn a_setting_that_is_not_a_list_of_names_is_rejected() {
        assert_eq!(parse_host(" Off.example.org.").as_deref(), Ok("off.example.org"));
        assert!(parse_host("*").is_ok() && parse_host("").is_ok());
        for wrong in ["http://off.example.org", "off.example.org:80", "*.example.org", "a b"] {
            assert!(parse_host(wrong).is_err(), "{wrong}");
        }
    }
}
